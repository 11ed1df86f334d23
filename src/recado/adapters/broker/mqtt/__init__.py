"""An external broker, over MQTT 3.1.1 with Recado's own codec: Mosquitto, RabbitMQ and what speaks like them."""

from recado.adapters.broker.mqtt.address import BrokerAddress, parse_address
from recado.adapters.broker.mqtt.announcer import Announcer
from recado.adapters.broker.mqtt.dynamic_security import DynamicSecurity
from recado.adapters.broker.mqtt.external import NOTIFY, ExternalBroker, Users
from recado.adapters.broker.mqtt.limits import DirectPathLimits, DynamicSecurityLimits, PublisherLimits
from recado.adapters.broker.mqtt.notify import NotifyHandler
from recado.adapters.broker.mqtt.publisher import Publisher
from recado.adapters.broker.mqtt.settling import Settling
from recado.adapters.broker.mqtt.token_logins import TokenLogins

__all__ = [
    "NOTIFY",
    "Announcer",
    "BrokerAddress",
    "DirectPathLimits",
    "DynamicSecurity",
    "DynamicSecurityLimits",
    "ExternalBroker",
    "NotifyHandler",
    "Publisher",
    "PublisherLimits",
    "Settling",
    "TokenLogins",
    "Users",
    "parse_address",
]
