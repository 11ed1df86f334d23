"""What happens behind the commit: jobs are claimed, run by their sinks' handlers, and settled."""

from recado.worker.limits import WorkerLimits
from recado.worker.worker import Worker

__all__ = ["Worker", "WorkerLimits"]
