"""The process's one connection to an external broker, kept over restarts of that broker.

Events go out at QoS 1 and stay in the window until their PUBACK, over as many connections as it takes; signals and
commands at QoS 0, if there is a connection with room now. Nothing here waits for the broker but `start` and `close`,
and what has no room is refused at once. A clean session at every connect: what is not acknowledged is sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recado.adapters.broker.mqtt.address import BrokerAddress
from recado.adapters.broker.mqtt.limits import PublisherLimits
from recado.adapters.broker.mqtt.link import Link, NotMqtt, is_refusal
from recado.adapters.broker.mqtt.window import Announcement, Outgoing, Window
from recado.mqtt.codec import encode
from recado.mqtt.packets import MQTT_3_1_1, Connect, Disconnect, Publish
from recado.mqtt.reason_codes import ReasonCode
from recado.ports import Unusable

_log = logging.getLogger(__name__)
_CHUNK_BYTES = 64 * 1024  # what is written at a time, so that a full buffer is noticed in between
_FIRST_RETRY_S = 0.1
_CHECK_S = 1.0
_REFUSES_USER = {ReasonCode.BAD_USER_NAME_OR_PASSWORD, ReasonCode.NOT_AUTHORIZED}
_REFUSES_LEVEL = {ReasonCode.UNSUPPORTED_PROTOCOL_VERSION, ReasonCode.CLIENT_IDENTIFIER_NOT_VALID}


@dataclass(slots=True)
class PublisherCounters:
    """What operators are told. Events count once for each recipient."""

    announced: int = 0
    acknowledged: int = 0
    overflowed: int = 0
    given_up: int = 0
    signals: int = 0
    signals_dropped: int = 0
    connected: int = 0
    lost: int = 0


class Publisher:
    """Made on the running event loop; `start` begins. What arrives on `listens_to`, if anything, goes to
    `on_publish`."""

    def __init__(self, address: BrokerAddress, limits: PublisherLimits) -> None:
        self.address = address
        self.limits = limits
        self.counters = PublisherCounters()
        self.window = Window(
            limits.broker_inflight_max,
            limits.broker_waiting_max,
            limits.broker_waiting_bytes_max,
            limits.broker_losses_max,
        )
        self.listens_to: str | None = None
        self.on_publish: Callable[[Publish], None] = lambda publish: None
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._tls = ssl.create_default_context() if address.is_tls else None
        self._emptied = asyncio.Event()
        self._attempts = 0
        self._complaint = ""
        self._progress_at = 0.0

    @property
    def is_connected(self) -> bool:
        return self._link is not None

    async def start(self) -> None:
        """Connect. A broker that is away is tried again from now on, as it would be later; one that refuses what it is
        told, or is no MQTT broker, raises Unusable."""
        try:
            await self._open()
        except NotMqtt as error:
            raise Unusable(f"there is no MQTT broker at {self.address}: {error}") from None
        except OSError as error:
            self._complain(str(error))
        self._keeping = self._loop.create_task(self._keep())

    async def close(self, within_s: float) -> None:
        """Wait so long for what is not acknowledged, if the broker is there; then end the connection, and give up the
        rest."""
        if self.is_connected and not self.window.is_empty:
            self._emptied.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), within_s)
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        if self._link is not None:
            self._link.close(encode(Disconnect(), MQTT_3_1_1))
            self._link = None
        self.window.give_up()

    # What goes out

    def announce(self, topic_names: Sequence[str], payload: bytes, done: Callable[[bool], None]) -> bool:
        """Publish an event to each topic, at QoS 1; False if there is no room, and then it is not sent. `done` is told
        True when the broker has acknowledged all, False if one was given up."""
        announcement = Announcement(len(topic_names), done)
        if not self.window.add([Outgoing(name, payload, announcement) for name in topic_names]):
            self.counters.overflowed += len(topic_names)
            return False
        self.counters.announced += len(topic_names)
        self._pump()
        return True

    def signal(self, topic_names: Sequence[str], payload: bytes) -> bool:
        """Publish to each topic at QoS 0; False if there is no connection, or no room in its buffer."""
        link = self._link
        if link is None or link.is_congested:
            self.counters.signals_dropped += len(topic_names)
            return False
        self.counters.signals += len(topic_names)
        link.write(b"".join(encode(Publish(name, payload), MQTT_3_1_1) for name in topic_names))
        return True

    def _pump(self) -> None:
        link = self._link
        if link is None:
            return
        if not self.window.inflight:
            self._progress_at = self._loop.time()
        while not link.is_congested and (data := self.window.take(_CHUNK_BYTES)):
            link.write(data)

    # link.Receiver

    def acknowledged(self, packet_id: int) -> None:
        self._progress_at = self._loop.time()
        self.counters.acknowledged += self.window.acknowledge(packet_id)
        if self.window.waiting:
            self._pump()
        elif self.window.is_empty:
            self._emptied.set()

    def received(self, publish: Publish) -> None:
        self.on_publish(publish)

    def writable(self) -> None:
        self._pump()

    # The connection

    async def _keep(self) -> None:
        """Have a connection, for ever."""
        retry_s = _FIRST_RETRY_S
        while True:
            if self._link is not None:
                retry_s = _FIRST_RETRY_S
                await self._watch(self._link)
            await asyncio.sleep(retry_s * random.uniform(0.5, 1.0))  # noqa: S311  to spread the processes
            retry_s = min(2 * retry_s, self.limits.broker_retry_s)
            try:
                await self._open()
            except (OSError, Unusable) as error:
                self._complain(str(error))
            else:
                self._complaint = ""
                _log.info("the broker %s is there again", self.address)

    def _complain(self, text: str) -> None:
        """Once for each reason: it is tried again until it works."""
        if text != self._complaint:
            _log.warning("the broker %s cannot be had, and is tried again: %s", self.address, text)
            self._complaint = text

    async def _open(self) -> None:
        """Raises OSError if the broker is away, Unusable if it will not do."""
        host, port = self.address.hosts[self._attempts % len(self.address.hosts)]
        self._attempts += 1
        try:
            async with asyncio.timeout(self.limits.broker_connect_s):
                link = await self._connect(host, port)
        except TimeoutError:
            raise OSError(f"{host}:{port} does not answer") from None
        except ssl.SSLError as error:
            if isinstance(error, ssl.SSLEOFError):  # it went in the middle of the handshake
                raise
            why = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else error.reason
            raise Unusable(f"TLS with the broker {self.address} fails: {why}") from None
        self.counters.connected += 1
        self._link = link
        self._progress_at = self._loop.time()
        self._pump()

    async def _connect(self, host: str, port: int) -> Link:
        limits = self.limits
        _, link = await self._loop.create_connection(
            lambda: Link(self, limits.broker_packet_bytes_max, limits.broker_buffer_bytes_max),
            host,
            port,
            ssl=self._tls,
        )
        try:
            await self._sign_in(link)
        except BaseException:
            link.abort(ConnectionError("it could not be signed in"))
            raise
        return link

    async def _sign_in(self, link: Link) -> None:
        username, password = self.address.username, self.address.password
        answer = await link.connect(
            Connect(
                f"recado-{secrets.token_hex(8)}",
                MQTT_3_1_1,
                keep_alive=self.limits.broker_keep_alive_s,
                username=username,
                password=None if password is None else password.encode(),
            )
        )
        if answer in _REFUSES_USER:
            raise Unusable(f"the broker {self.address} refuses the user or the password in the URL of --broker")
        if answer in _REFUSES_LEVEL:
            raise Unusable(f"the broker {self.address} does not take MQTT 3.1.1 clients")
        if is_refusal(answer):
            raise ConnectionError("it takes no connections now")
        if self.listens_to is not None and is_refusal(await link.subscribe(self.listens_to)):
            what = f"does not let the user in the URL of --broker read {self.listens_to}"
            raise Unusable(f"the broker {self.address} {what}")

    async def _watch(self, link: Link) -> None:
        """Until the connection is lost, or does not live any more."""
        while not link.ended.done():
            await asyncio.wait([link.ended], timeout=_CHECK_S)
            if not link.ended.done():
                self._check(link)
        self._link = None
        self.counters.lost += 1
        if self.window.lose():
            self.counters.given_up += 1
            _log.error("the broker %s lost the connection over the same publish again and again", self.address)
        _log.warning("the connection to the broker %s is lost: %s", self.address, link.ended.result())

    def _check(self, link: Link) -> None:
        now = self._loop.time()
        if now - link.heard_at > self.limits.broker_keep_alive_s:
            link.abort(ConnectionError("it has been silent for too long"))
        elif self.window.inflight and now - self._progress_at > self.limits.broker_acknowledge_s:
            link.abort(ConnectionError("it acknowledges nothing"))
        elif now - link.heard_at > self.limits.broker_keep_alive_s / 3:
            link.ping()
