"""Who may read `/metrics`: whoever is on this machine, and the host application from anywhere.

A proxy on this machine, and a browser here that shows somebody's page, are not whom they speak for. Of a page neither
its Origin nor a name of its own for this address (DNS rebinding) may get it the metrics.
"""

import re
from ipaddress import ip_address

from starlette.types import Scope

from recado.http.asked import identify, read_headers
from recado.http.settings import Access

_FORWARDING_PREFIX = b"x-forwarded-"
_OF_OTHERS = frozenset(
    {
        b"cf-connecting-ip",
        b"client-ip",
        b"fastly-client-ip",
        b"fly-client-ip",
        b"forwarded",
        b"origin",
        b"true-client-ip",
        b"via",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-original-forwarded-for",
        b"x-real-ip",
    }
)
"""What a request has only if a proxy has handed it on, or a page has made it."""
_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9a-f:]+)\]|(?P<name>[0-9a-z.]+))(?::\d{1,5})?", re.ASCII | re.IGNORECASE)


def check_may_read_metrics(access: Access, scope: Scope, *, is_behind_proxy: bool) -> None:
    """A proxy is on this machine too, so with one nobody is here. Raises Unauthenticated, Forbidden."""
    if not is_behind_proxy and _is_local(scope):
        return
    principal, _ = identify(access, read_headers(scope))
    principal.require_host()


def _is_local(scope: Scope) -> bool:
    """True if the request was made on this machine, for itself."""
    if any(name in _OF_OTHERS or name.startswith(_FORWARDING_PREFIX) for name, _ in scope["headers"]):
        return False
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    return len(hosts) == 1 and _names_this_machine(hosts[0]) and _is_loopback((scope.get("client") or ("", 0))[0])


def _names_this_machine(host: str) -> bool:
    named = _HOST.fullmatch(host)
    return named is not None and (host.partition(":")[0].lower() == "localhost" or _is_loopback(named[1] or named[2]))


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
