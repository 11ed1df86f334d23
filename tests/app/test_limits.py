"""Limits changed by their names."""

from __future__ import annotations

from dataclasses import fields

import pytest

from recado.app.config import SettingsError
from recado.app.limits import DEFAULT, STANDALONE, STANDALONE_RELATIONS, with_changes

NAMES = sorted(each.name for part in fields(DEFAULT) for each in fields(getattr(DEFAULT, part.name)))


def number(limits: object, name: str) -> int:
    """The limit of that name, wherever it is."""
    for part in fields(DEFAULT):
        group = getattr(limits, part.name)
        if name in {each.name for each in fields(group)}:
            found: int = getattr(group, name)
            return found
    raise AssertionError(name)


def test_no_change_is_the_default() -> None:
    assert with_changes({}) == DEFAULT


@pytest.mark.parametrize("name", NAMES)
def test_each_limit_can_be_changed_and_no_other_changes_with_it(name: str) -> None:
    changed = number(DEFAULT, name) - 1 or 1
    if name in ("page_max", "token_ttl_s_max", "packet_bytes_max", "frame_bytes_max", "request_bytes_max"):
        changed = number(DEFAULT, name) + 1 if name != "packet_bytes_max" else number(DEFAULT, name) - 1
    limits = with_changes({name: changed})
    assert {each: number(limits, each) for each in NAMES} == {
        each: changed if each == name else number(DEFAULT, each) for each in NAMES
    }


def test_several_may_be_changed() -> None:
    limits = with_changes({"body_bytes_max": 100, "members_max": 3})
    assert (limits.chat.body_bytes_max, limits.chat.members_max) == (100, 3)


@pytest.mark.parametrize("name", ["", "body", "BODY_BYTES_MAX", "chat.body_bytes_max", "__class__"])
def test_an_unknown_limit_is_named_and_the_page_that_lists_them_too(name: str) -> None:
    with pytest.raises(SettingsError, match=r"docs/configuration\.md") as error:
        with_changes({name: 1})
    assert repr(name) in str(error.value)


@pytest.mark.parametrize(
    ("name", "wrong"), [("body_bytes_max", 0), ("body_bytes_max", -1), ("receive_maximum", 65_536), ("inflight_max", 0)]
)
def test_a_number_that_cannot_be_is_refused(name: str, wrong: int) -> None:
    with pytest.raises(SettingsError, match=name):
        with_changes({name: wrong})


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(SettingsError, match="page_default must not be more than"):
        with_changes({"page_max": 10})
    assert with_changes({"page_max": 10, "page_default": 10}).chat.page_max == 10


@pytest.mark.parametrize("timeout", ["webhook_timeout_s", "push_timeout_s"])
def test_an_attempt_may_not_be_ended_before_its_sink_may_have_answered(timeout: str) -> None:
    with pytest.raises(SettingsError, match=f"limit.{timeout} must not be more than limit.job_deadline_s"):
        with_changes({timeout: 31})
    assert with_changes({timeout: 31, "job_deadline_s": 31}).worker.job_deadline_s == 31


def test_a_lease_may_not_be_so_long_that_its_message_appears_again_before_it_is_extended() -> None:
    with pytest.raises(SettingsError, match=r"limit.job_lease_s must not be more than 2 times limit\.queue_v"):
        with_changes({"job_lease_s": 60})
    assert with_changes({"job_lease_s": 60, "queue_visibility_s": 30}).worker.job_lease_s == 60


def test_limits_of_what_a_command_has_no_part_in_do_not_bind_it() -> None:
    with pytest.raises(SettingsError, match="body_bytes_max must not be more than"):
        with_changes({"packet_bytes_max": 1000})
    limits = with_changes({"packet_bytes_max": 1000, "page_max": 10}, STANDALONE, STANDALONE_RELATIONS)
    assert limits.broker.packet_bytes_max == 1000
    with pytest.raises(SettingsError, match="packet_bytes_max must not be more"):
        with_changes({"frame_bytes_max": 1000}, STANDALONE, STANDALONE_RELATIONS)
