"""The named statements of a `statements.sql`: `SQL["insert_event"]`."""

import re
from importlib.resources import files

_START = re.compile(r"^-- (\w+): .*$", re.MULTILINE)


def load(package: str) -> dict[str, str]:
    """The statements of the `statements.sql` in a package, by name."""
    text = files(package).joinpath("statements.sql").read_text("utf-8")
    starts = [match for match in _START.finditer(text) if match[1] != "name"]
    ends = [match.start() for match in starts[1:]] + [len(text)]
    return {start[1]: text[start.end() : end].strip() for start, end in zip(starts, ends, strict=True)}


SQL = load(__package__)
