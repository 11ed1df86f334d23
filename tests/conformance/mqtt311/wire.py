"""Packets as bytes, right or wrong: for what the codec would not make."""

from __future__ import annotations

from recado.mqtt.properties import variable_byte_integer

LEVEL_311 = 4


def packet(first: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes((first,)) + variable_byte_integer(len(body)) + body


def text(value: str | bytes) -> bytes:
    """With its length before it; bytes are taken as they are."""
    raw = value.encode() if isinstance(value, str) else value
    return len(raw).to_bytes(2, "big") + raw


def connect(
    flags: int, *payload: bytes, name: bytes = b"MQTT", level: int = LEVEL_311, keep_alive: int = 0, first: int = 0x10
) -> bytes:
    """CONNECT with these flags, whatever the payload has."""
    return packet(first, text(name), bytes((level, flags)), keep_alive.to_bytes(2, "big"), *payload)
