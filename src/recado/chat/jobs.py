"""What the host asks of the jobs behind the commit: to see them, to retry them and to drop them. Actions, as in
`actions`; a job has no body, and neither has its error's text.
"""

from recado.chat.actions import Chat, check_seq, page_size
from recado.chat.errors import Invalid
from recado.chat.ids import check_id
from recado.chat.principal import Principal
from recado.ports import JobCount, JobFilter, JobView

__all__ = ["ALL", "STATES", "JobFilter", "count_jobs", "drop_jobs", "list_jobs", "retry_jobs"]
STATES = ("waiting", "claimed", "dead")
ALL = JobFilter()


async def list_jobs(chat: Chat, principal: Principal, which: JobFilter, limit: int | None) -> list[JobView]:
    """The oldest first. Raises Forbidden, Invalid, Unavailable, as the others here."""
    principal.require_host()
    return await chat.store.list_jobs(_checked(which), page_size(chat, limit))


async def count_jobs(chat: Chat, principal: Principal) -> list[JobCount]:
    """How many of each sink are in which state, and since when."""
    principal.require_host()
    return await chat.store.count_jobs()


async def retry_jobs(chat: Chat, principal: Principal, which: JobFilter, *, everything: bool) -> int:
    """Dead ones and those that wait run at once, as if never tried; returns how many."""
    principal.require_host()
    return await chat.store.retry_jobs(_meant(which, everything), chat.now_ms())


async def drop_jobs(chat: Chat, principal: Principal, which: JobFilter, *, everything: bool) -> int:
    """Forget those that no worker is at; returns how many."""
    principal.require_host()
    return await chat.store.drop_jobs(_meant(which, everything))


def _meant(which: JobFilter, everything: bool) -> JobFilter:
    if (which == ALL) is not everything:
        raise Invalid("name a sink, a state, a conversation or a seq, or else say all: one of the two, and not both")
    if which.state == "claimed":
        raise Invalid("a worker is at what is claimed: state is waiting or dead here")
    return _checked(which)


def _checked(which: JobFilter) -> JobFilter:
    if which.sink is not None and not which.sink.isprintable():
        raise Invalid("sink is the name of a sink, such as webhook: it has no control characters")
    if which.state is not None and which.state not in STATES:
        raise Invalid(f"state is {', '.join(STATES)}, not {which.state[:40]!r}")
    if which.conversation is not None:
        check_id(which.conversation, "conversation id")
    if which.seq is not None:
        check_seq(which.seq, "seq")
    return which
