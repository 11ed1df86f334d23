"""Sends each event to an SQS queue, several in one request. A queue that keeps order (FIFO) keeps that of each
conversation, and SQS drops what is sent to it again within five minutes."""

from collections.abc import Sequence

from recado.adapters.queue.sqs.client import BATCH, SqsAway, SqsClient, SqsMessage
from recado.adapters.sinks.capture import captured
from recado.chat.event import count_within
from recado.grouping import Grouping
from recado.ports import GiveUp, JobEvent, TryLater

_BYTES_MAX = 256 * 1024  # of the bodies in one request, and so of one: what every SQS takes
# SQS takes the characters of XML 1.0. JSON has escapes for control characters; these two are the rest.
_NOT_OF_XML = str.maketrans({"\ufffe": "\\ufffe", "\uffff": "\\uffff"})


class CaptureQueue:
    """A `recado.ports.SinkHandler`. It closes the client."""

    def __init__(self, client: SqsClient, is_fifo: bool) -> None:
        self._client = client
        self._is_fifo = is_fifo
        self._messages: Grouping[SqsMessage] = Grouping(self._send, BATCH)

    async def deliver(self, conversation: str, entry: JobEvent) -> None:
        body = captured(conversation, entry.event).decode().translate(_NOT_OF_XML)
        if len(body.encode()) > _BYTES_MAX:
            raise GiveUp(f"capture_queue: the event is longer than the {_BYTES_MAX} bytes that SQS takes")
        if self._is_fifo:
            await self._messages.put(SqsMessage(body, conversation, f"{conversation}:{entry.event.seq}"))
        else:
            await self._messages.put(SqsMessage(body))

    async def close(self) -> None:
        await self._messages.close()
        await self._client.close()

    async def _send(self, messages: Sequence[SqsMessage]) -> Sequence[TryLater | None]:
        outcomes: list[TryLater | None] = []
        while len(outcomes) < len(messages):
            left = messages[len(outcomes) :]
            outcomes += await self._send_together(
                left[: count_within((len(each.body.encode()) for each in left), _BYTES_MAX)]
            )
        return outcomes

    async def _send_together(self, messages: Sequence[SqsMessage]) -> list[TryLater | None]:
        try:
            taken = await self._client.send(messages)
        except SqsAway as error:
            return [TryLater(f"capture_queue: SQS fails: {error}") for _ in messages]
        return [None if is_taken else TryLater("capture_queue: SQS has not taken the message") for is_taken in taken]
