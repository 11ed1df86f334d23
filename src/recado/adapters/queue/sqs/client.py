"""SQS as the few requests that Recado makes, each over when it returns, or SqsAway.

When one begins to fail that is logged once, and once more when it goes well again; each failure is counted. `lost_at`
tells the relay that the queue may have lost what was in it.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from math import inf
from typing import Any, NamedTuple, TypeVar

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError, NoRegionError
from prometheus_client import Counter

from recado.adapters.queue.sqs.address import SqsAddress
from recado.adapters.queue.sqs.limits import SqsLimits
from recado.ports import Unusable

BATCH = 10  # entries of one request, messages of one answer: SQS's own
WAIT_S = 20  # for a message to come: the longest that SQS allows
HIDDEN_S_MAX = 12 * 3600  # SQS's own
T = TypeVar("T")
_log = logging.getLogger(__name__)
_FAILURES = Counter("recado_sqs_failures", "Requests to SQS that failed.", ["action"])

_FAILED = (BotoCoreError, ClientError, TimeoutError, OSError)
_NO_SUCH_QUEUE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")
_NOT_LET_IN = (
    *("AccessDenied", "AccessDeniedException", "ExpiredToken", "InvalidAccessKeyId", "InvalidClientTokenId"),
    *("InvalidSecurity", "MissingAuthenticationToken", "OptInRequired", "SignatureDoesNotMatch"),
    *("UnrecognizedClientException", "InvalidSignatureException"),
)


class SqsAway(Exception):
    """The request failed, and may go well later. The text is a kind of error, with nothing of the request."""


class Received(NamedTuple):
    """`receipt` is what SQS knows this delivery of the message by; a later one of it has the same `id`."""

    id: str
    receipt: str
    body: str


class SqsMessage(NamedTuple):
    """The last two are for a queue that keeps order (FIFO)."""

    body: str
    group: str | None = None
    id: str | None = None


class SqsClient:
    """One queue. Make it with `open`."""

    def __init__(self, client: Any, url: str, answer_s: int, closing: AsyncExitStack) -> None:
        self.lost_at = -inf
        """When the queue was last seen to be unreachable or not to exist, as the loop's time."""
        self._client = client
        self._url = url
        self._answer_s = answer_s
        self._closing = closing
        self._failing: set[str] = set()

    @classmethod
    async def open(cls, setting: str, address: SqsAddress, limits: SqsLimits, receivers: int = 0) -> "SqsClient":
        """`receivers` are those who wait for messages at a time. Raises Unusable if there is no such queue, it cannot
        be reached, or it does not let us in."""
        config = AioConfig(
            connect_timeout=limits.queue_connect_s,
            read_timeout=WAIT_S + limits.queue_answer_s,
            max_pool_connections=receivers + limits.queue_requests_max,
            retries={"total_max_attempts": 1},  # who calls knows better when to try again
        )
        closing = AsyncExitStack()
        try:
            making = get_session().create_client(
                "sqs", region_name=address.region, endpoint_url=address.endpoint, config=config
            )
            client = await closing.enter_async_context(making)
            url = await _url_of(client, address, limits.queue_answer_s)
            return cls(client, url, limits.queue_answer_s, closing)
        except BaseException as error:
            await closing.aclose()
            if isinstance(error, _FAILED):
                raise Unusable(f"{setting}: {_why(error, address)}") from None
            raise

    async def close(self) -> None:
        await self._closing.aclose()

    async def send(self, messages: Sequence[SqsMessage]) -> list[bool]:
        """Send up to BATCH; tells of each whether SQS has it now. Raises SqsAway."""
        entries = [{"Id": str(index), **_fields(message)} for index, message in enumerate(messages)]
        answer = await self._ask("send_message_batch", Entries=entries)
        failed = {int(entry["Id"]) for entry in answer.get("Failed", ())}
        if failed:
            _FAILURES.labels("send_message_batch").inc(len(failed))
        return [index not in failed for index in range(len(messages))]

    async def receive(self, hidden_s: int) -> list[Received]:
        """Wait up to WAIT_S for messages, which nobody else gets for so long. Raises SqsAway."""
        answer = await self._ask(
            "receive_message",
            WAIT_S,
            MaxNumberOfMessages=BATCH,
            WaitTimeSeconds=WAIT_S,
            VisibilityTimeout=hidden_s,
        )
        return [
            Received(message["MessageId"], message["ReceiptHandle"], message["Body"])
            for message in answer.get("Messages", ())
        ]

    async def delete(self, receipts: Sequence[str]) -> None:
        """Delete up to BATCH. Raises SqsAway."""
        entries = [{"Id": str(index), "ReceiptHandle": receipt} for index, receipt in enumerate(receipts)]
        await self._ask("delete_message_batch", Entries=entries)

    async def hide(self, receipts: Sequence[tuple[str, int]]) -> None:
        """Have nobody else get those, up to BATCH, for so many seconds from now; 0: at once. Raises SqsAway."""
        entries = [
            {"Id": str(index), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
            for index, (receipt, seconds) in enumerate(receipts)
        ]
        await self._ask("change_message_visibility_batch", Entries=entries)

    async def _ask(self, action: str, wait_s: int = 0, **arguments: object) -> dict[str, Any]:
        try:
            async with asyncio.timeout(wait_s + self._answer_s):
                answer: dict[str, Any] = await getattr(self._client, action)(QueueUrl=self._url, **arguments)
        except _FAILED as error:
            self._note_failure(action, error)
            raise SqsAway(_kind(error)) from None
        if action in self._failing:
            self._failing.discard(action)
            _log.info("SQS answers again: %s", action)
        return answer

    def _note_failure(self, action: str, error: Exception) -> None:
        _FAILURES.labels(action).inc()
        if isinstance(error, EndpointConnectionError) or _kind(error) in _NO_SUCH_QUEUE:
            self.lost_at = asyncio.get_running_loop().time()
        if action not in self._failing:
            self._failing.add(action)
            _log.warning("SQS fails: %s: %s; it is tried again", action, _kind(error))


def batches(things: Sequence[T]) -> Iterator[Sequence[T]]:
    """As one request takes them."""
    return (things[first : first + BATCH] for first in range(0, len(things), BATCH))


def _fields(message: SqsMessage) -> dict[str, str]:
    fields = {"MessageBody": message.body, "MessageGroupId": message.group, "MessageDeduplicationId": message.id}
    return {name: value for name, value in fields.items() if value is not None}


async def _url_of(client: Any, address: SqsAddress, answer_s: int) -> str:
    owner = {} if address.account is None else {"QueueOwnerAWSAccountId": address.account}
    async with asyncio.timeout(answer_s):
        answer = await client.get_queue_url(QueueName=address.name, **owner)
    url: str = answer["QueueUrl"]
    return url


def _kind(error: Exception) -> str:
    if isinstance(error, ClientError):
        code: str = error.response.get("Error", {}).get("Code", "ClientError")
        return code
    return type(error).__name__


def _why(error: Exception, address: SqsAddress) -> str:
    """What is wrong at the start, and what would be right."""
    kind = _kind(error)
    if isinstance(error, NoRegionError):
        return "it names no region: add ?region=eu-west-1, or set AWS_DEFAULT_REGION"
    if isinstance(error, NoCredentialsError):
        return (
            "there are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role"
        )
    if kind in _NO_SUCH_QUEUE:
        return f"there is no SQS queue {address.name!r}: create it, or correct the name, the account or the region"
    if kind in _NOT_LET_IN:
        return f"SQS does not let these AWS credentials use the queue {address.name!r} ({kind})"
    return f"SQS cannot be reached at {address.endpoint or address.region or 'its region'} ({kind})"
