"""The named statements of `statements.sql`: `SQL["insert_event"]`."""

import re
from importlib.resources import files

_START = re.compile(r"^-- (\w+): .*$", re.MULTILINE)


def _load() -> dict[str, str]:
    text = files(__package__).joinpath("statements.sql").read_text("utf-8")
    starts = [match for match in _START.finditer(text) if match[1] != "name"]
    ends = [match.start() for match in starts[1:]] + [len(text)]
    return {start[1]: text[start.end() : end].strip() for start, end in zip(starts, ends, strict=True)}


SQL = _load()
