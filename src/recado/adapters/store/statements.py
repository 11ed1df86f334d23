"""The named statements of a package's .sql files: `SQL["insert_event"]`."""

import re
from collections.abc import Iterator
from importlib.resources import files

_START = re.compile(r"^-- (\w+): .*$", re.MULTILINE)


def load(package: str) -> dict[str, str]:
    """The statements of the .sql files in a package, by name."""
    texts = [entry.read_text("utf-8") for entry in files(package).iterdir() if entry.name.endswith(".sql")]
    return {name: statement for text in texts for name, statement in _named(text)}


def _named(text: str) -> Iterator[tuple[str, str]]:
    starts = [match for match in _START.finditer(text) if match[1] != "name"]
    ends = [match.start() for match in starts[1:]] + [len(text)]
    for start, end in zip(starts, ends, strict=True):
        yield start[1], text[start.end() : end].strip()
