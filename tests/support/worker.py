"""A real `recado worker` as a process, like a `Server`: it has one port, where its operators' pages are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.support.server import Server


class WorkerProcess(Server):
    @classmethod
    def of(cls, directory: Path, *options: str, environment: Mapping[str, str] | None = None) -> WorkerProcess:
        """Return a worker that is not started yet; the options have its database and its sinks."""
        return cls(directory, "worker", options, dict(environment or {}))

    def _ports(self) -> tuple[str, ...]:
        return (f"--worker-port={self.http_port}",)
