"""Prints what compose.yaml needs to be told: passwords and keys, each new. Keep the file that you put it into."""

import base64
import secrets

NAMES = ("RECADO_SECRET", "RECADO_API_KEY", "RECADO_BROKER_PASSWORD", "MOSQUITTO_ADMIN_PASSWORD", "POSTGRES_PASSWORD")
PUSH_KEY_BYTES = 32  # a number below the order of P-256: with this first byte it always is


def push_key() -> str:
    """As `recado push-key` makes it, without having to install Recado first."""
    number = bytes([1 + secrets.randbelow(0xFE)]) + secrets.token_bytes(PUSH_KEY_BYTES - 1)
    return base64.urlsafe_b64encode(number).rstrip(b"=").decode()


for name in NAMES:
    print(f"{name}={secrets.token_urlsafe(32)}")
print(f"RECADO_PUSH_KEY={push_key()}")
