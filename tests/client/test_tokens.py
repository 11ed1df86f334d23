"""Which token is used, and when another is asked for; how long to wait before connecting again."""

from __future__ import annotations

import pytest

from recado.client.backoff import Backoff
from recado.client.tokens import Token, Tokens
from tests.support.tokens import mint_token

SECRET = "a secret of this test that is long enough for HS256"


def test_a_token_says_whose_it_is_and_when_it_ends() -> None:
    token = Token(mint_token(SECRET, "ana", 100))
    assert token.user == "ana"
    assert token.expires_at_s is not None


@pytest.mark.parametrize("text", ["", "opaque", "a.b", "a.!!.c", "a.e30.c", "a.W10.c", "é.é.é"])
def test_a_token_that_says_nothing_is_left_to_the_server(text: str) -> None:
    assert (Token(text).user, Token(text).expires_at_s) == (None, None)


async def test_the_provider_is_asked_only_when_the_token_is_about_to_end() -> None:
    asked: list[str] = []

    async def provide() -> str:
        asked.append(mint_token(SECRET, "ana", 1_000))
        return asked[-1]

    tokens = Tokens(provide, renew_before_s=60)
    now_s = 0.0
    await tokens.current(now_s)
    await tokens.current(now_s)
    assert len(asked) == 1
    renew_at_s = tokens.renew_at_s()
    assert renew_at_s == Token(asked[0]).expires_at_s - 60  # type: ignore[operator]
    await tokens.current(renew_at_s)
    assert len(asked) == 2
    tokens.forget()
    await tokens.current(now_s)
    assert len(asked) == 3


async def test_a_short_token_is_renewed_at_half_of_its_life() -> None:
    async def provide() -> str:
        return mint_token(SECRET, "ana", 10)

    tokens = Tokens(provide, renew_before_s=60)
    ends_at_s = Token(await provide()).expires_at_s
    assert ends_at_s is not None
    await tokens.next(ends_at_s - 8)
    assert tokens.renew_at_s() == pytest.approx(ends_at_s - 4, abs=1.1)


@pytest.mark.parametrize("left_s", [1.5, 0.1, -5])
async def test_a_provider_that_has_no_newer_token_is_not_asked_all_the_time(left_s: float) -> None:
    token = mint_token(SECRET, "ana", 100)

    async def provide() -> str:
        return token

    tokens = Tokens(provide, renew_before_s=60)
    ends_at_s = Token(token).expires_at_s
    assert ends_at_s is not None
    now_s = ends_at_s - left_s
    await tokens.next(now_s)
    assert tokens.renew_at_s() == now_s + 1


async def test_a_token_without_a_provider_is_not_renewed() -> None:
    tokens = Tokens(mint_token(SECRET, "ana", 10), renew_before_s=60)
    await tokens.current(0)
    assert tokens.renew_at_s() is None


def test_the_waits_double_up_to_the_longest_and_each_is_a_random_part() -> None:
    backoff = Backoff(0.5, 4.0, lambda: 1.0)
    assert [backoff.next_s() for _ in range(5)] == [0.5, 1.0, 2.0, 4.0, 4.0]
    backoff.reset()
    assert backoff.next_s() == 0.5
    assert Backoff(0.5, 4.0, lambda: 0.25).next_s() == 0.125
