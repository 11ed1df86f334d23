"""The PROXY protocol, version 2: who the client of a proxy is, said before its first byte.

Bytes in, an address out. Nothing of version 1, and no guess whether a header comes: a listener that expects one refuses
who has none. Memory is bounded by HEADER_BYTES_MAX, and nothing is read past the header's end: `missing` says how many
bytes may still be read.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from recado.broker.tcp import address

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
HEADER_BYTES_MAX = 16 + 216 + 1024
"""The fixed part, the longest addresses (two Unix paths), and room for the proxy's own fields, which are skipped."""

_FIXED_BYTES = 16
_LOCAL, _PROXY = 0x20, 0x21  # the version's 2 and the command
_UNSPECIFIED = 0x00
# Family and transport to the bytes of its addresses and ports; datagrams have no business here.
_ADDRESS_BYTES = {_UNSPECIFIED: 0, 0x11: 12, 0x21: 36, 0x31: 216}


class MalformedHeader(Exception):
    """Whoever has connected is no proxy that speaks version 2."""


def missing(header: bytes) -> int:
    """How many bytes more may be read; 0 if the header is whole. Raises MalformedHeader at the first wrong byte."""
    if not header.startswith(SIGNATURE[: len(header)]):
        raise MalformedHeader("it does not begin with the signature of version 2")
    if len(header) > 12 and header[12] not in (_LOCAL, _PROXY):
        raise MalformedHeader(f"version and command are 0x{header[12]:02x}")
    if len(header) < _FIXED_BYTES:
        return _FIXED_BYTES - len(header)
    size = _FIXED_BYTES + int.from_bytes(header[14:16])
    if size > HEADER_BYTES_MAX:
        raise MalformedHeader(f"it has {size} bytes, the limit is {HEADER_BYTES_MAX}")
    return size - len(header)


def client_of(header: bytes) -> str | None:
    """The client of a whole header: 203.0.113.7:51234, [2001:db8::7]:51234 or unix; None if it is the proxy itself, or
    the proxy does not know. Raises MalformedHeader."""
    if header[12] == _LOCAL:
        return None
    family = header[13]
    addresses = header[_FIXED_BYTES:]
    if family not in _ADDRESS_BYTES or len(addresses) < _ADDRESS_BYTES[family]:
        raise MalformedHeader(f"the family 0x{family:02x} with {len(addresses)} bytes of addresses")
    if family == 0x11:
        return address(str(IPv4Address(addresses[:4])), int.from_bytes(addresses[8:10]))
    if family == 0x21:
        return address(str(IPv6Address(addresses[:16])), int.from_bytes(addresses[32:34]))
    return None if family == _UNSPECIFIED else "unix"
