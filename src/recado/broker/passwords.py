"""Users and their passwords: a file of `user:argon2id-hash` lines, and checking against it without stopping the loop.

A check takes some 50 ms of a core and 64 MB: few run at a time, on threads of their own; few wait; and what was right
once is remembered, so that everybody coming back at once is cheap. What is remembered is a keyed digest, never a
password. An unknown user costs what a wrong password costs.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
import stat
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from argon2 import PasswordHasher, Type, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

_HASHER = PasswordHasher()  # RFC 9106's second recommendation: argon2id, 64 MiB, 3 passes


@dataclass(frozen=True, slots=True)
class PasswordLimits:
    password_threads: int
    """Passwords that are checked at the same time; each takes a core and 64 MB."""
    password_checks_max: int
    """Those and the ones that wait for it; a client beyond is told to try again."""
    passwords_remembered_max: int
    """Right passwords that need not be checked again until the file is read again."""


class PasswordError(Exception):
    """A password file, a user name or a password that cannot be used; the text says why."""


class TooManyChecks(Exception):
    """As many passwords wait to be checked as may."""


# The file


def load_passwords(path: Path) -> dict[str, str]:
    """Each user's hash. Raises PasswordError, which names the file and the line."""
    return _parse(path, _read_lines(path))


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PasswordError(f"the password file {path} cannot be read: {_why(error)}") from None


def _user_in(line: str) -> str | None:
    """Whose line it is; None of an empty line and a comment."""
    line = line.strip()
    return None if not line or line.startswith("#") else line.partition(":")[0]


def _parse(path: Path, lines: list[str]) -> dict[str, str]:
    passwords: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        user = _user_in(line)
        if user is None:
            continue
        password_hash = line.strip().partition(":")[2]
        if not user or not _is_argon2id(password_hash):
            raise PasswordError(f"{path} line {number} is not `user:argon2id-hash`: make it with `recado passwd`")
        if user in passwords:
            raise PasswordError(f"{path} line {number}: {user!r} is there twice")
        passwords[user] = password_hash
    return passwords


def _is_argon2id(password_hash: str) -> bool:
    try:
        return extract_parameters(password_hash).type is Type.ID
    except InvalidHashError:
        return False


def set_password(path: Path, user: str, password: str) -> None:
    """Write a user's password into the file, which is made if there is none. Raises PasswordError."""
    check_user_name(user)
    if not password or "\n" in password or "\r" in password:
        raise PasswordError("a password is one line, and not empty")
    lines = _read_lines(path) if path.exists() else []
    passwords = _parse(path, lines)
    written = f"{user}:{_HASHER.hash(password)}"
    if user in passwords:
        _save(path, [written if _user_in(line) == user else line for line in lines])
    else:
        _save(path, [*(lines if lines != [""] else []), written])


def delete_user(path: Path, user: str) -> None:
    """Raises PasswordError, also if there is no such user."""
    lines = _read_lines(path)
    if user not in _parse(path, lines):
        raise PasswordError(f"{path} has no user {user!r}")
    _save(path, [line for line in lines if _user_in(line) != user])


def check_user_name(user: str) -> None:
    """Raises PasswordError for a name that would not be read back as it is."""
    if not user or ":" in user or user.startswith("#") or not user.isprintable() or user != user.strip():
        raise PasswordError(
            "a user name has no ':', no line break, no '#' at its start and no space around it, and is not empty"
        )


def _save(path: Path, lines: list[str]) -> None:
    """Either the old file or the new one is there, whole, whatever happens. Mode and owner stay as they were; only its
    owner may read a new file."""
    path = path.resolve()
    text = "".join(f"{line}\n" for line in lines)
    try:
        descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # with mode 0600
        try:
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                _keep_owner_and_mode(path, file.fileno())
            Path(unfinished).replace(path)
        except BaseException:
            Path(unfinished).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise PasswordError(f"the password file {path} cannot be written: {_why(error)}") from None


def _keep_owner_and_mode(path: Path, descriptor: int) -> None:
    """So that the server goes on being able to read it, whoever changes it. Raises PermissionError if it would not."""
    try:
        former = path.stat()
    except FileNotFoundError:
        return
    try:
        os.fchown(descriptor, former.st_uid, former.st_gid)
    except PermissionError:
        raise PermissionError(errno.EPERM, "its owner could not be kept: run this as root or as its owner") from None
    os.fchmod(descriptor, stat.S_IMODE(former.st_mode))


def _why(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is not UTF-8"


# Checking


class PasswordChecks:
    """Passwords as one file has them; `replace` when it has changed."""

    def __init__(self, passwords: Mapping[str, str], limits: PasswordLimits) -> None:
        self._passwords = passwords
        self._limits = limits
        self._checking: dict[bytes, asyncio.Future[bool]] = {}
        self._remembered: OrderedDict[bytes, None] = OrderedDict()
        self._digest_key = secrets.token_bytes(32)
        self._nobodys_hash = _HASHER.hash(secrets.token_urlsafe(16))
        self._threads = ThreadPoolExecutor(limits.password_threads, "passwords")

    def replace(self, passwords: Mapping[str, str]) -> set[str]:
        """Go by another file's users from now on. Returns those whose password is not what it was."""
        former, self._passwords = self._passwords, passwords
        self._remembered.clear()
        return {user for user, password_hash in former.items() if passwords.get(user) != password_hash}

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def is_right(self, user: str, password: bytes) -> bool:
        """Raises TooManyChecks."""
        while True:
            passwords = self._passwords
            right = await self._check(user, passwords.get(user), password)
            if passwords is self._passwords:  # else it was checked against what holds no more
                return right

    async def _check(self, user: str, password_hash: str | None, password: bytes) -> bool:
        digest = self._digest(user, password_hash or "", password)
        if digest in self._remembered:
            self._remembered.move_to_end(digest)
            return True
        checking = self._checking.get(digest)
        if checking is None:
            if len(self._checking) >= self._limits.password_checks_max:
                raise TooManyChecks
            loop = asyncio.get_running_loop()
            checking = loop.run_in_executor(self._threads, _verify, password_hash or self._nobodys_hash, password)
            checking.add_done_callback(partial(self._checked, digest))
            self._checking[digest] = checking
        right = await asyncio.shield(checking)  # others may wait for the same
        return right and password_hash is not None

    def _checked(self, digest: bytes, checking: asyncio.Future[bool]) -> None:
        del self._checking[digest]
        if not checking.cancelled() and checking.exception() is None and checking.result():
            self._remembered[digest] = None
            if len(self._remembered) > self._limits.passwords_remembered_max:
                self._remembered.popitem(last=False)

    def _digest(self, user: str, password_hash: str, password: bytes) -> bytes:
        who = hashlib.blake2b(f"{user}\0{password_hash}".encode(), digest_size=32).digest()
        return hashlib.blake2b(who + password, key=self._digest_key, digest_size=32).digest()


def _verify(password_hash: str, password: bytes) -> bool:
    try:
        return _HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
