"""`sqs://orders?region=eu-west-1`: which queue a setting means."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from recado.ports import Unusable

FORM = "sqs://name?region=eu-west-1, or sqs://account/name; &endpoint=http://host:port for one that is not Amazon's"
_URL = re.compile(r"sqs://((?P<account>[^/?#]+)/)?(?P<name>[^/?#]+)/?(\?(?P<query>[^#]*))?")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo")
_ACCOUNT = re.compile(r"\d{12}")
_REGION = re.compile(r"[a-z0-9-]{1,40}")


@dataclass(frozen=True, slots=True)
class SqsAddress:
    """`account` is that of the queue's owner, if it is not the caller's. Without a region, AWS's configuration has it.
    `endpoint` is the origin of a service that is not Amazon's."""

    name: str
    account: str | None = None
    region: str | None = None
    endpoint: str | None = None

    @classmethod
    def parse(cls, setting: str, url: str, or_else: str = "") -> "SqsAddress":
        """`or_else` says what else the setting may be. Raises Unusable, whose text says what would be right and
        repeats nothing of what was given: it may be a key."""
        if "@" in url:
            raise Unusable(f"{setting} has no credentials in it: they are found as AWS's own tools find them")
        parts = _URL.fullmatch(url)
        if parts is None or not _NAME.fullmatch(parts["name"]):
            raise Unusable(f"{setting} is {or_else}{FORM}")
        account, name = parts["account"], parts["name"]
        options = dict(parse_qsl(parts["query"] or "", keep_blank_values=True))
        if account is not None and not _ACCOUNT.fullmatch(account):
            raise Unusable(f"{setting}: an account is 12 digits, as sqs://123456789012/{name}")
        if options.keys() - {"region", "endpoint"}:
            raise Unusable(f"{setting} takes region and endpoint after the ?, and nothing else")
        _check(setting, options)
        return cls(name, account, options.get("region"), options.get("endpoint"))

    @property
    def is_fifo(self) -> bool:
        return self.name.endswith(".fifo")


def _check(setting: str, options: dict[str, str]) -> None:
    region, endpoint = options.get("region"), options.get("endpoint")
    if region is not None and not _REGION.fullmatch(region):
        raise Unusable(f"{setting}: a region is such as eu-west-1")
    if endpoint is not None and not _is_origin(endpoint):
        raise Unusable(f"{setting}: an endpoint is http://host:port or https://host, without a path or a user")


def _is_origin(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_host = parts.port != 0 and bool(parts.hostname)
    except ValueError:  # the port is no number, or the address no address
        return False
    return has_host and url in (f"http://{parts.netloc}", f"https://{parts.netloc}")
