"""The optional parts of an install."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from recado.ports import Unusable

# Each extra's, by the names that they are imported by.
MODULES: Mapping[str, frozenset[str]] = {
    "postgres": frozenset({"asyncpg"}),
    "sqs": frozenset({"aiobotocore", "botocore"}),
    "webhooks": frozenset({"aiohttp"}),
    "push": frozenset({"aiohttp", "pywebpush"}),
    "otel": frozenset({"opentelemetry"}),
}


@contextmanager
def needing(extra: str, setting: str) -> Iterator[None]:
    """What is imported in the block comes with an extra, which the setting needs. Raises Unusable without it. Another
    module that is missing is a fault of this program or of the install, and stays one."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in MODULES[extra]:
            raise
        raise Unusable(f"{setting} needs the extra: pip install '.[{extra}]' in a clone of the repository") from None
