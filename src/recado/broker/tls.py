"""What the server shows to TLS clients. One context for all listeners, so that a reload reaches each of them."""

from __future__ import annotations

import ssl
from pathlib import Path


class TlsCertificates:
    """The certificate with those that it is signed with, and its private key: PEM files. Raises OSError (ssl.SSLError
    is one) if a file cannot be read or does not fit."""

    def __init__(self, certificate: Path, key: Path | None = None) -> None:
        self._certificate = certificate
        self._key = key
        self.context = self._new_context()

    def reload(self) -> None:
        """Read certificate and key again, for handshakes from now on; connections go on. If they are wrong, what was
        read before stays. Raises OSError."""
        self._new_context()  # a context that took half of a wrong pair could not go back
        self._load_into(self.context)

    def _new_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load_into(context)
        return context

    def _load_into(self, context: ssl.SSLContext) -> None:
        # Without a password of its own OpenSSL would ask for one at the terminal, and wait.
        context.load_cert_chain(self._certificate, self._key, password="")
