"""Which normative statements of MQTT 5.0 and 3.1.1 a test names, and at which lines of the source one is kept.

`python -m tests.conformance.coverage` prints the count; with `--list`, every statement and where it is named. It fails
if a statement is neither named by a test nor excused, if an excused one is named by a test after all, and if an id that
somebody wrote does not exist. An id is written `MQTT5-3.1.2-24` or `MQTT311-3.1.2-24`, with or without brackets, in a
test's docstring, comments or table of cases; a test file's own docstring does not count.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SPECIFICATIONS = {"MQTT5": "mqtt-5.0.txt", "MQTT311": "mqtt-3.1.1.txt"}
WRITTEN = re.compile(r"\bMQTT(?:5|311)-[0-9][0-9A-Za-z.-]*[0-9A-Za-z]")
TEST_FILES = ("test_*.py", "cases.py", "*.test.js")
SOURCE_FILES = ("*.py", "*.js", "*.sql")

Names = dict[str, list[str]]


@dataclass
class Coverage:
    """Statements by their id; `tested` and `kept` map an id to the places that name it."""

    statements: list[str]
    excused: dict[str, str]
    tested: Names = field(default_factory=dict)
    kept: Names = field(default_factory=dict)

    def errors(self) -> Iterator[str]:
        known = set(self.statements)
        for names in (self.tested, self.kept):
            for written in names.keys() - known:
                yield f"{written} is no statement of its specification: {', '.join(names[written])}"
        for statement in self.excused.keys() - known:
            yield f"{statement} is excused and is no statement of its specification"
        for statement in self.statements:
            if statement in self.excused and statement in self.tested:
                yield f"{statement} is excused, but {self.tested[statement][0]} names it"
            elif statement not in self.excused and statement not in self.tested:
                yield f"{statement} is named by no test, and not excused"

    def counts(self, specification: str) -> list[int]:
        of = [each for each in self.statements if each.startswith(specification + "-")]
        missing = sum(each not in self.tested and each not in self.excused for each in of)
        return [
            len(of),
            *(sum(each in part for each in of) for part in (self.tested, self.kept, self.excused)),
            missing,
        ]


def read_statements() -> list[str]:
    return [
        line.replace("MQTT-", f"{specification}-", 1)
        for specification, name in SPECIFICATIONS.items()
        for line in (HERE / "statements" / name).read_text(encoding="utf-8").splitlines()
        if line.startswith("MQTT-")
    ]


def read_excused() -> dict[str, str]:
    """Statement to reason. A line is an id, blanks, and the reason."""
    lines = (HERE / "excused.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    unreasoned = [pair[0] for pair in pairs if len(pair) < 2]
    if unreasoned:
        raise SystemExit(f"excused.txt gives no reason for {unreasoned}")
    return {pair[0]: pair[1] for pair in pairs}


def names_in(root: Path, patterns: tuple[str, ...]) -> Names:
    """Every id that is written in the files, and where: a test function, or a line outside of one."""
    names: Names = defaultdict(list)
    for path in sorted({path for pattern in patterns for path in root.rglob(pattern)}):
        if {"node_modules", "__pycache__"} & set(path.parts):
            continue
        text = path.read_text(encoding="utf-8")
        if WRITTEN.search(text) is None:
            continue
        place_of = _places(text) if path.suffix == ".py" else {}
        for number, line in enumerate(text.splitlines(), 1):
            place = place_of.get(number, str(number))
            for written in WRITTEN.findall(line) if place else ():
                where = f"{path.relative_to(ROOT)}:{place}"
                if where not in names[written]:
                    names[written].append(where)
    return dict(names)


def _places(text: str) -> dict[int, str]:
    """Line number to the test function it is in; to "" in a test file's own docstring."""
    module = ast.parse(text)
    places: dict[int, str] = {}
    tests = [
        each
        for each in ast.walk(module)
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name.startswith("test_")
    ]
    if tests and ast.get_docstring(module) is not None:
        places |= dict.fromkeys(range(1, (module.body[0].end_lineno or 0) + 1), "")
    for test in tests:
        first = min([test.lineno, *(decorator.lineno for decorator in test.decorator_list)])
        places |= dict.fromkeys(range(first, (test.end_lineno or first) + 1), f":{test.name}")
    return places


def measure() -> Coverage:
    tested = names_in(ROOT / "tests", TEST_FILES)
    return Coverage(read_statements(), read_excused(), tested, names_in(ROOT / "src", SOURCE_FILES))


def main(arguments: list[str]) -> int:
    coverage = measure()
    if "--list" in arguments:
        for statement in coverage.statements:
            tests = ", ".join(coverage.tested.get(statement, []))
            lines = ", ".join(coverage.kept.get(statement, []))
            excuse = coverage.excused.get(statement, "")
            print(f"{statement:<20} {tests or excuse or 'MISSING'}" + (f"\n{'':<20} at {lines}" if lines else ""))
    print(f"{'specification':<14} {'statements':>10} {'tested':>7} {'at a line':>10} {'excused':>8} {'missing':>8}")
    for specification in SPECIFICATIONS:
        total, tested, kept, excused, missing = coverage.counts(specification)
        print(f"{specification:<14} {total:>10} {tested:>7} {kept:>10} {excused:>8} {missing:>8}")
    errors = list(coverage.errors())
    print("\n".join(errors), file=sys.stderr, end="\n" if errors else "")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
