"""A run in which a message was lost, doubled, out of order or somebody else's measured nothing, and fails."""

from __future__ import annotations

import pytest

from recado.bench.failure import Failure, RunFailed
from recado.bench.ledger import Event, Ledger, Reader

BODY_BYTES = 10
CONVERSATION = "order-1000"


class Room:
    """One conversation of two, with a message or two under way."""

    def __init__(self, sent: int) -> None:
        self.failure = Failure()
        self.ledger = Ledger(BODY_BYTES, self.failure)
        self.ana, self.bruno = (self.ledger.reader(user, CONVERSATION) for user in ("ana", "bruno"))
        for number in range(1, sent + 1):
            self.ledger.sending(CONVERSATION, f"m{number}", is_measured=True)

    def arrive(self, reader: Reader, seq: int, conversation: str = CONVERSATION, body: str = "x" * BODY_BYTES) -> None:
        self.ledger.arrived(reader, conversation, Event(seq, f"m{seq}", body, "ana"))


async def test_everything_in_order_once_is_what_a_run_needs() -> None:
    room = Room(sent=2)
    for reader in (room.ana, room.bruno):
        room.arrive(reader, 1)
        room.arrive(reader, 2)
    await room.ledger.deliveries.none_left(timeout_s=1)
    room.failure.check()
    assert len(room.ledger.arrivals_ms) == 2, "the sender's own copy is no arrival"


async def test_a_message_that_one_reader_never_gets_is_missed() -> None:
    room = Room(sent=1)
    room.arrive(room.ana, 1)
    with pytest.raises(RunFailed, match="waiting for 1 deliveries"):
        await room.ledger.deliveries.none_left(timeout_s=0.01)


@pytest.mark.parametrize(
    ("seqs", "complaint"),
    [([2], "bruno got 2 after 0"), ([1, 1], "bruno got 1 after 1"), ([1, 2, 1], "bruno got 1 after 2")],
    ids=["a gap", "a double", "an old one again"],
)
async def test_a_gap_or_a_double_fails_the_run(seqs: list[int], complaint: str) -> None:
    room = Room(sent=2)
    for seq in seqs:
        room.arrive(room.bruno, seq)
    with pytest.raises(RunFailed, match=complaint):
        room.failure.check()


@pytest.mark.parametrize(
    "wrong", [{"conversation": "order-1001"}, {"body": "x"}, {"seq": 2}], ids=["another's", "cut short", "unknown"]
)
async def test_what_nobody_sent_fails_the_run(wrong: dict[str, object]) -> None:
    room = Room(sent=1)
    room.arrive(room.bruno, **{"seq": 1, **wrong})  # type: ignore[arg-type]
    with pytest.raises(RunFailed, match="bruno got what nobody sent"):
        room.failure.check()
