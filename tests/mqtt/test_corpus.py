"""The fuzzer's corpus, replayed without the fuzzer; tests/fuzz/target.py says how it is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
CORPUS_BYTES_MAX = 1_000_000

# What the fuzzer found, mended since: target, input, what was wrong.
FOUND = [
    ("decoder", "0c07d0f8fffffcdcff0278", "a wrong first byte was named or not, as the bytes behind it were cut"),
    (
        "connections",
        "000015101300044d515454050200000527000000140001730002f100",
        "DISCONNECT had a reason string that made it larger than the client takes",
    ),
    (
        "connections",
        "000018101600044d51545405020000081500016d1600016400016d000cf00a18081500016d16000121000af00619041500016d0000",
        "AUTH was written after DISCONNECT, when a protocol error came right behind the client's own AUTH",
    ),
]


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_of_the_corpus_keeps_what_holds(name: str) -> None:
    inputs = sorted((CORPUS / name).iterdir())
    assert len(inputs) > 10
    for each in [*(each.read_bytes() for each in inputs), *TARGETS[name].seeds()]:
        TARGETS[name].check(each)


@pytest.mark.parametrize(("name", "data", "was"), FOUND)
def test_what_the_fuzzer_found_stays_mended(name: str, data: str, was: str) -> None:
    TARGETS[name].check(bytes.fromhex(data))


def test_the_corpus_stays_small() -> None:
    assert sum(each.stat().st_size for each in CORPUS.rglob("*") if each.is_file()) < CORPUS_BYTES_MAX
