"""Which addresses a server may call for somebody else: none that only it can reach."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_IPV4_AT_THE_END = (IPv6Network("64:ff9b::/96"),)  # NAT64 (RFC 6052)
# What `is_global` takes for public, in one version of Python or another.
_NOT_GLOBAL = (
    IPv4Network("168.63.129.16/32"),  # Azure's own services for the machine that asks
    IPv4Network("192.0.0.0/24"),  # protocol assignments (RFC 6890), of which Oracle's cloud has its metadata
    IPv4Network("192.88.99.0/24"),  # 6to4 relays (RFC 7526)
    IPv6Network("3fff::/20"),  # documentation (RFC 9637)
)


def is_public(address: str) -> bool:
    """Whether it is one of the whole internet: not private, loopback, link-local, multicast, reserved or unspecified,
    nor an IPv6 address that stands for such an IPv4 address. False for what is no address."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return _is_public(parsed)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        inner = _ipv4_within(address)
        if inner is not None:
            return _is_public(inner)
        if address.is_site_local:
            return False
    if any(address in network for network in _NOT_GLOBAL):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _ipv4_within(address: IPv6Address) -> IPv4Address | None:
    if any(address in network for network in _IPV4_AT_THE_END):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
