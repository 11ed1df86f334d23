"""What breaks when is decided by the seed alone, and does break."""

from __future__ import annotations

import apsw
import pytest

from tests.crash.disturbances import EVERY, Disturbance, Disturber, What, plan
from tests.crash.phases import Phases
from tests.support.api import Answer
from tests.support.server import Server

SEEDS = [str(number) for number in range(50)]


def test_a_plan_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    for seed in SEEDS:
        assert plan(seed, 30) == plan(seed, 30)
        assert plan(seed, 30) != plan(seed + "x", 30)


def test_a_plan_of_fourteen_seconds_has_one_of_each_and_ends_in_time() -> None:
    for seed in SEEDS:
        planned = plan(seed, 14)
        assert {each.what for each in planned} == set(EVERY), seed
        assert sum(each.after_s + each.for_s for each in planned) <= 14, seed


def carry_out(server: Server, what: What, for_s: float, kills: bool = False) -> tuple[Disturber, Phases]:
    """Begin it; at the end of the phases it ends early."""
    phases = Phases()
    planned = [Disturbance(0.0, what, for_s, kills)]
    disturber = Disturber(server, server.directory / "recado.db", planned, "a seed", phases)
    disturber.start()
    return disturber, phases


@pytest.mark.parametrize("kills", [False, True])
def test_after_every_disturbance_the_server_takes_messages_again(server: Server, kills: bool) -> None:
    conversation = server.host_api.create_conversation(["ana", "bruno"])
    for seq, what in enumerate(EVERY, 1):
        first = server.pid
        disturber, _ = carry_out(server, what, 0.1, kills)
        disturber.join()
        disturber.check()

        assert (server.pid != first) == (what == "kill" or kills)
        assert server.api("ana").send(conversation, f"still there after {what}")["seq"] == seq


def send(server: Server, conversation: str, number: int) -> Answer:
    body = {"id": f"m{number}", "body": "x" * 4_000}
    return server.api("ana").call("POST", f"/conversations/{conversation}/messages", body)


def test_on_a_full_disk_messages_are_refused_for_now_and_what_was_acknowledged_stays(server: Server) -> None:
    conversation = server.host_api.create_conversation(["ana", "bruno"])
    disturber, phases = carry_out(server, "full_disk", 30.0)
    number = 0
    answer = send(server, conversation, number)
    while answer.status == 201 and number < 1_000:
        number += 1
        answer = send(server, conversation, number)
    phases.over.set()
    disturber.join()

    assert answer.status == 503
    assert send(server, conversation, number).status == 201
    assert [event["id"] for event in server.host_api.history(conversation)] == [f"m{n}" for n in range(number + 1)]


def test_a_slow_store_is_a_database_that_nobody_else_can_write_to_meanwhile(server: Server) -> None:
    disturber, phases = carry_out(server, "slow_store", 30.0)
    other = apsw.Connection(str(server.directory / "recado.db"))
    try:
        assert phases.until(lambda: is_locked(other), 10)
        phases.over.set()
        disturber.join()
        assert not is_locked(other)
    finally:
        other.close()


def is_locked(database: apsw.Connection) -> bool:
    try:
        database.execute("BEGIN IMMEDIATE")
    except apsw.BusyError:
        return True
    database.execute("ROLLBACK")
    return False
