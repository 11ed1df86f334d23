"""Who stops reading costs the server a bounded buffer and nobody else anything, and then gets everything in order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.contracts.transports.contract import Reader
from tests.contracts.transports.stage import Stage, events, next_event, seqs
from tests.support.metrics import MIB, resident_bytes

BODY = "x" * 8_000
WARM_UP, ALONE, FLOOD = 100, 248, 992
SENDERS = 4
EXTRA_MAX = 4 * MIB
"""Of the 15 MiB that wait for two readers. The rest is in the kernel's buffers, a few MiB for each, and in the log."""


def test_who_stops_reading_costs_little_and_holds_up_nobody_and_misses_nothing(
    stage_of_the_store: Stage, transport: str
) -> None:
    stage = stage_of_the_store
    ana, bruno, carla = stage.users("ana", "bruno", "carla")
    conversation = stage.conversation(ana, bruno, carla)
    prompt = stage.following_all(transport, carla)
    assert seqs(flood(stage, conversation, ana, prompt, WARM_UP)) == list(range(1, WARM_UP + 1))
    memory = [resident_bytes(stage.server)]
    flood(stage, conversation, ana, prompt, ALONE)
    memory.append(resident_bytes(stage.server))
    start = WARM_UP + ALONE
    slow = [stage.following(transport, bruno, conversation), stage.following_all(transport, bruno)]
    came = flood(stage, conversation, ana, prompt, FLOOD)
    memory.append(resident_bytes(stage.server))
    assert seqs(came) == list(range(start + 1, start + FLOOD + 1)), "the others were served meanwhile"
    # What is stored takes memory too, up to the size of the store's caches.
    extra = (memory[2] - memory[1]) - (memory[1] - memory[0]) * FLOOD / ALONE
    assert extra < EXTRA_MAX, f"{extra / MIB:.1f} MiB for two readers"
    stage.say(conversation, ana, "live again")
    for reader in slow:
        assert events(reader, FLOOD) == came
        assert next_event(reader)["body"] == "live again"


def flood(stage: Stage, conversation: str, user: str, prompt: Reader, count: int) -> list[dict[str, object]]:
    """Send so many at once from several connections, and return what the prompt reader gets meanwhile."""

    def send() -> None:
        api = stage.server.api(user)
        for _ in range(count // SENDERS):
            api.send(conversation, BODY)

    with ThreadPoolExecutor(SENDERS) as senders:
        sending = [senders.submit(send) for _ in range(SENDERS)]
        came = events(prompt, count // SENDERS * SENDERS)
        for each in sending:
            each.result()
    return came
