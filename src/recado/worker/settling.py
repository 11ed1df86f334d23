"""Settling in groups: what lanes have done while the last write ran goes into the next one."""

import asyncio

from recado.ports import Job, Store


class Settling:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[tuple[Job, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def settle(self, job: Job) -> None:
        """Returns once the store has it. Raises Unavailable."""
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, settled))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        await settled

    async def _run(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                error = await self._write([job for job, _ in group])
                for _, settled in group:
                    if not settled.done():
                        settled.set_result(None) if error is None else settled.set_exception(error)
        finally:
            self._task = None

    async def _write(self, jobs: list[Job]) -> Exception | None:
        try:
            await self._store.settle_jobs(jobs)
        except Exception as error:  # each lane has to know
            return error
        return None
