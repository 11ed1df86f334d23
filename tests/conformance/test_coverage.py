"""The script that counts the statements notices each kind of mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance import coverage
from tests.conformance.coverage import Coverage, names_in, read_statements

ONE, TWO, THREE = (
    "-".join(("MQTT5", "9.9.9", number)) for number in "123"
)  # not written out, or they would be counted
SOMEWHERE = ["tests/test_x.py::test_x"]


def test_statements_that_are_tested_or_excused_are_no_mistake() -> None:
    assert list(Coverage([ONE, TWO], {TWO: "why"}, {ONE: SOMEWHERE}, {ONE: SOMEWHERE}).errors()) == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (Coverage([ONE], {}, {}, {}), "named by no test"),
        (Coverage([ONE], {}, {}, {ONE: SOMEWHERE}), "named by no test"),
        (Coverage([ONE], {ONE: "why"}, {ONE: SOMEWHERE}, {}), "is excused, but tests/test_x.py::test_x names it"),
        (Coverage([ONE], {}, {ONE: SOMEWHERE, TWO: SOMEWHERE}, {}), f"{TWO} is no statement"),
        (Coverage([ONE], {}, {ONE: SOMEWHERE}, {TWO: SOMEWHERE}), f"{TWO} is no statement"),
        (Coverage([ONE], {TWO: "why"}, {ONE: SOMEWHERE}, {}), f"{TWO} is excused and is no statement"),
    ],
)
def test_each_mistake_is_named(wrong: Coverage, says: str) -> None:
    (error,) = wrong.errors()
    assert says in error


def test_only_what_a_test_says_counts_and_not_what_its_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "ROOT", tmp_path)
    (tmp_path / "test_some.py").write_text(
        f'"""About {THREE}."""\nTABLE = ["{ONE}"]\n\n\nasync def test_it():\n    """[{TWO}]"""\n'
    )
    (tmp_path / "other.py").write_text(f"# {THREE}\n")
    assert names_in(tmp_path, coverage.TEST_FILES) == {ONE: ["test_some.py:2"], TWO: ["test_some.py::test_it"]}


def test_both_lists_are_whole() -> None:
    statements = read_statements()
    assert len(statements) == len(set(statements))
    counts = {level: sum(each.startswith(level + "-") for each in statements) for level in ("MQTT5", "MQTT311")}
    assert counts == {"MQTT5": 251, "MQTT311": 141}
