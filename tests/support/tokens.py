"""User tokens as a host application makes them: HS256 JWTs with `sub` and `exp`."""

from __future__ import annotations

import time

import jwt


def mint_token(secret: str, user: str, ttl_s: float = 3600) -> str:
    return jwt.encode({"sub": user, "exp": int(time.time() + ttl_s)}, secret, algorithm="HS256")
