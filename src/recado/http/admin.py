"""The calls for operators about the jobs behind the commit. They are the host's: they need the API key."""

from typing import Any

import msgspec

from recado.chat import jobs
from recado.chat.jobs import JobFilter
from recado.http.answer import Answer, json_answer
from recado.http.asked import Asked, Parameter
from recado.http.call import Call
from recado.http.context import Door
from recado.http.shapes import JobAnswer, JobCountAnswer, JobsAnswer, JobsBody, JobsChangedAnswer, JobStatsAnswer


async def list_jobs(door: Door, asked: Asked[None]) -> Answer:
    query = asked.query
    which = JobFilter(query.get("sink"), query.get("state"), query.get("conversation"), asked.number("seq"))
    found = await jobs.list_jobs(door.chat, asked.principal, which, asked.number("limit"))
    return json_answer(200, JobsAnswer([JobAnswer(*msgspec.structs.astuple(view)) for view in found]))


async def get_job_stats(door: Door, asked: Asked[None]) -> Answer:
    counts = await jobs.count_jobs(door.chat, asked.principal)
    return json_answer(200, JobStatsAnswer([JobCountAnswer(*count) for count in counts]))


async def retry_jobs(door: Door, asked: Asked[JobsBody]) -> Answer:
    which, everything = _meant(asked.body), asked.body.all
    count = await jobs.retry_jobs(door.chat, asked.principal, which, everything=everything)
    return json_answer(200, JobsChangedAnswer(count))


async def drop_jobs(door: Door, asked: Asked[JobsBody]) -> Answer:
    count = await jobs.drop_jobs(door.chat, asked.principal, _meant(asked.body), everything=asked.body.all)
    return json_answer(200, JobsChangedAnswer(count))


def _meant(body: JobsBody) -> JobFilter:
    return JobFilter(body.sink, body.state, body.conversation, body.seq)


_SINK = Parameter("sink", "text", "Only this sink's.")
_STATE = Parameter("state", "text", "Only those in this state: waiting, claimed or dead.")
_CONVERSATION = Parameter("conversation", "text", "Only those about this conversation.")
_SEQ = Parameter("seq", "seq", "Only those about the event with this seq.")
_LIMIT = Parameter("limit", "limit", "At most so many.")

ADMIN_CALLS: tuple[Call[Any], ...] = (
    Call(
        "GET",
        "/admin/jobs",
        "listJobs",
        "The jobs behind the commit, the oldest first.",
        "host",
        list_jobs,
        None,
        {200: JobsAnswer},
        (_SINK, _STATE, _CONVERSATION, _SEQ, _LIMIT),
    ),
    Call(
        "GET",
        "/admin/jobs/stats",
        "getJobStats",
        "How many jobs of each sink are in which state, and since when.",
        "host",
        get_job_stats,
        None,
        {200: JobStatsAnswer},
    ),
    Call(
        "POST",
        "/admin/jobs/retry",
        "retryJobs",
        "Run dead letters and waiting jobs at once, as if never tried.",
        "host",
        retry_jobs,
        JobsBody,
        {200: JobsChangedAnswer},
    ),
    Call(
        "POST",
        "/admin/jobs/drop",
        "dropJobs",
        "Forget dead letters and waiting jobs: what they were to do is never done.",
        "host",
        drop_jobs,
        JobsBody,
        {200: JobsChangedAnswer},
    ),
)
