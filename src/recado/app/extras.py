"""The optional parts of an install."""

from collections.abc import Iterator
from contextlib import contextmanager

from recado.ports import Unusable


@contextmanager
def needing(extra: str, setting: str) -> Iterator[None]:
    """What is imported in the block comes with an extra, which the setting needs. Raises Unusable without it."""
    try:
        yield
    except ModuleNotFoundError:
        raise Unusable(f"{setting} needs the extra: pip install 'recado[{extra}]'") from None
