"""The five transports of the contract, under the names of the article."""

from __future__ import annotations

from functools import partial

from tests.contracts.transports.contract import Transport
from tests.contracts.transports.event_stream import StreamReader
from tests.contracts.transports.long_poll import PollReader
from tests.contracts.transports.mqtt import MqttReader, MqttSender
from tests.contracts.transports.posting import PostSender
from tests.contracts.transports.websocket import WebSocketReader

over_mqtt = partial(Transport, tells_seqs=False, has_cursor=False)
over_http = partial(Transport, new_sender=PostSender, tells_seqs=True, has_cursor=True)
TRANSPORTS = {
    "mqtt-ws": over_mqtt(partial(MqttReader, door="websockets"), partial(MqttSender, door="websocket")),
    "mqtt-tcp": over_mqtt(partial(MqttReader, door="tcp"), partial(MqttSender, door="tcp")),
    "websocket": over_http(WebSocketReader),
    "sse": over_http(StreamReader),
    "long-poll": over_http(PollReader),
}
EVERY = sorted(TRANSPORTS)
WITH_SIGNALS = sorted(TRANSPORTS.keys() - {"long-poll"})
WITH_RECEIPTS = ["mqtt-tcp", "mqtt-ws", "websocket"]
WITH_A_CURSOR = [name for name in EVERY if TRANSPORTS[name].has_cursor]
SENDING = ["mqtt-tcp", "mqtt-ws", "websocket"]
"""One for each way of sending."""
