"""Certificates for the tests' own TLS listeners and clients, made when they are asked for."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Certificate:
    """One that signs itself, for 127.0.0.1: its files are what a server or a client needs, and a peer trusts."""

    name: str
    certificate: Path
    key: Path

    @classmethod
    def make(cls, directory: Path, name: str) -> Certificate:
        private_key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        signed = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(private_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
            .sign(private_key, hashes.SHA256())
        )
        made = cls(name, directory / f"{name}.pem", directory / f"{name}.key")
        made.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        made.key.write_bytes(
            private_key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return made

    def lock(self, password: str) -> None:
        """Encrypt the key's file."""
        private_key = serialization.load_pem_private_key(self.key.read_bytes(), None)
        locked = serialization.BestAvailableEncryption(password.encode())
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        self.key.write_bytes(private_key.private_bytes(encoding, form, locked))

    def trusted(self) -> ssl.SSLContext:
        """For a client that trusts this one alone."""
        return ssl.create_default_context(cafile=str(self.certificate))
