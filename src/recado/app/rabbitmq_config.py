"""The configuration of a RabbitMQ that serves Recado's users over MQTT: what `recado broker-config rabbitmq` prints.

RabbitMQ asks Recado about users (`recado.http.rabbitmq`). The publisher is a user of RabbitMQ's own and is looked for
there first, so that it never depends on Recado being up, and is never mixed up with a user of the same name.
"""

import hashlib
import hmac
import json
from base64 import b64encode, urlsafe_b64encode

from recado.http.rabbitmq import EXCHANGE, PATH, QUESTIONS, VHOST

PLUGINS = ("rabbitmq_auth_backend_http", "rabbitmq_mqtt", "rabbitmq_web_mqtt")
_QUEUES = "^mqtt-subscription-"
# A queue that outlives its connection would collect its user's messages for ever: of a node that was down, or of a
# client that did not connect clean. What does not fit, the client reads from the log.
_QUEUE_POLICY = {"expires": 60_000, "max-length": 10_000}
_UNACKNOWLEDGED_MAX = 100
_FRAME_BYTES_MAX = 65_536  # clients only connect, subscribe and acknowledge
_ASKED_AS = "recado"  # RabbitMQ needs some user name in the URL


def broker_key(secret: str) -> str:
    """What RabbitMQ says when it asks. It opens nothing else, and the secret cannot be found from it."""
    digest = hmac.digest(secret.encode(), b"recado broker key", "sha256")
    return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def configuration(recado: str, key: str, definitions: str = "/etc/rabbitmq/definitions.json") -> str:
    """A rabbitmq.conf. `recado` is where RabbitMQ reaches Recado, as host:port; `definitions` the file of the
    definitions."""
    asked = f"http://{_ASKED_AS}:{key}@{recado}{PATH}"
    lines = [
        "# The publisher is RabbitMQ's own user; everybody else is one of Recado's.",
        "auth_backends.1 = internal",
        "auth_backends.2 = http",
        "auth_http.http_method = post",
        *(f"auth_http.{name}_path = {asked}/{name}" for name in QUESTIONS),
        "auth_http.request_timeout = 5000",
        "mqtt.allow_anonymous = false",
        f"mqtt.vhost = {VHOST}",
        f"mqtt.exchange = {EXCHANGE}",
        f"mqtt.prefetch = {_UNACKNOWLEDGED_MAX}",
        "web_mqtt.ws_path = /mqtt",
        f"web_mqtt.ws_opts.max_frame_size = {_FRAME_BYTES_MAX}",
        f"load_definitions = {definitions}",
    ]
    return "\n".join([*lines, ""])


def definitions(user: str, password: str, salt: bytes) -> str:
    """What RabbitMQ loads at its first start (`load_definitions`): the publisher, and an end for queues that nobody
    reads. With a user in it RabbitMQ makes no `guest`. `salt` is 4 random bytes."""
    hashed = b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode("ascii")
    of_user = {"user": user, "vhost": VHOST}
    loaded = {
        "users": [
            {"name": user, "password_hash": hashed, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": []}
        ],
        "vhosts": [{"name": VHOST}],
        "permissions": [{**of_user, "configure": _QUEUES, "write": f"^{EXCHANGE}$".replace(".", r"\."), "read": "^$"}],
        "topic_permissions": [{**of_user, "exchange": EXCHANGE, "write": r"^u\.", "read": "^$"}],
        "policies": [
            {
                "vhost": VHOST,
                "name": "recado",
                "pattern": _QUEUES,
                "apply-to": "queues",
                "definition": _QUEUE_POLICY,
                "priority": 0,
            }
        ],
    }
    return json.dumps(loaded, indent=2) + "\n"


def enabled_plugins() -> str:
    """RabbitMQ's file of that name."""
    return f"[{','.join(PLUGINS)}].\n"
