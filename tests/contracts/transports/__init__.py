"""The five transports of the contract, under the names of the article."""

from __future__ import annotations

from functools import partial

from tests.contracts.transports.contract import Transport
from tests.contracts.transports.event_stream import StreamReader
from tests.contracts.transports.long_poll import PollReader
from tests.contracts.transports.mqtt import MqttReader, MqttSender
from tests.contracts.transports.posting import PostSender
from tests.contracts.transports.websocket import WebSocketReader

TRANSPORTS = {
    "mqtt-ws": Transport(partial(MqttReader, door="websockets"), partial(MqttSender, door="websocket")),
    "mqtt-tcp": Transport(partial(MqttReader, door="tcp"), partial(MqttSender, door="tcp")),
    "websocket": Transport(WebSocketReader, PostSender),
    "sse": Transport(StreamReader, PostSender),
    "long-poll": Transport(PollReader, PostSender),
}
EVERY = sorted(TRANSPORTS)
WITH_SIGNALS = sorted(TRANSPORTS.keys() - {"long-poll"})
WITH_RECEIPTS = ["mqtt-tcp", "mqtt-ws", "websocket"]
WITH_A_CURSOR = ["long-poll", "sse", "websocket"]
SENDING = ["mqtt-tcp", "mqtt-ws", "websocket"]
"""One for each way of sending."""
