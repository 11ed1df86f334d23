"""Ids: which are valid, and the ones that Recado makes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recado.chat.errors import Invalid
from recado.chat.ids import RANDOM_BITS, check_id, is_valid_id, time_ordered_id

MS_MAX = 2**45 - 1


@pytest.mark.parametrize("text", ["a", "Z", "0", "_", "-", "order-4711", "A_b-9", "x" * 64])
def test_ids_of_the_64_characters_are_valid(text: str) -> None:
    assert is_valid_id(text)
    assert check_id(text, "user id") is text


@pytest.mark.parametrize(
    "text", ["", "x" * 65, "a b", "a/b", "+", "#", "a\n", "\na", "a\x00", "é", "\u0661", "\uff41", "a.b", "$a", "ana@x"]
)
def test_anything_else_is_refused_by_its_name(text: str) -> None:
    assert not is_valid_id(text)
    with pytest.raises(Invalid, match="user id must be 1 to 64"):
        check_id(text, "user id")


def test_a_long_text_is_not_repeated_whole_in_the_refusal() -> None:
    with pytest.raises(Invalid) as refusal:
        check_id("x" * 100_000, "user id")
    assert len(refusal.value.message) < 300


@given(st.integers(0, MS_MAX), st.integers(0, 2**RANDOM_BITS - 1))
def test_a_made_id_is_valid_and_always_as_long(now_ms: int, random_bits: int) -> None:
    made = time_ordered_id(now_ms, random_bits)
    assert is_valid_id(made)
    assert len(made) == 17


@given(*[st.tuples(st.integers(0, MS_MAX), st.integers(0, 2**RANDOM_BITS - 1)) for _ in range(2)])
def test_made_ids_sort_by_time_and_differ_by_their_random_bits(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (time_ordered_id(*one) < time_ordered_id(*other)) == (one < other)
    assert (time_ordered_id(*one) == time_ordered_id(*other)) == (one == other)
