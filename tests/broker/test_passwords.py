"""The password file, and checks against it: right and wrong, how many at a time, and what is remembered."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from argon2 import PasswordHasher, extract_parameters

from recado.broker import passwords as module
from recado.broker.passwords import (
    PasswordChecks,
    PasswordError,
    PasswordLimits,
    TooManyChecks,
    delete_user,
    load_passwords,
    set_password,
)

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users"


# The file


def test_a_password_that_was_set_is_a_line_with_a_hash_and_no_password(path: Path) -> None:
    set_password(path, "ana", "secret of ana")
    set_password(path, "bruno", "secret of bruno")
    lines = path.read_text().splitlines()
    assert [line.partition("$")[0] for line in lines] == ["ana:", "bruno:"]
    assert all("$argon2id$v=19$m=65536,t=3," in line for line in lines)
    assert "secret" not in path.read_text()
    assert list(load_passwords(path)) == ["ana", "bruno"]


def test_setting_a_password_again_changes_it_and_no_other(path: Path) -> None:
    for user in ("ana", "bruno", "ana"):
        before = load_passwords(path) if path.exists() else {}
        set_password(path, user, "x")
    after = load_passwords(path)
    assert after["bruno"] == before["bruno"]
    assert after["ana"] != before["ana"]


def test_a_deleted_user_is_gone_and_one_who_is_not_there_is_named(path: Path) -> None:
    set_password(path, "ana", "x")
    set_password(path, "bruno", "x")
    delete_user(path, "ana")
    assert list(load_passwords(path)) == ["bruno"]
    with pytest.raises(PasswordError, match="no user 'ana'"):
        delete_user(path, "ana")


def test_only_the_owner_may_read_a_new_file_and_a_changed_one_keeps_its_mode_and_nothing_else_is_left(
    path: Path,
) -> None:
    set_password(path, "ana", "x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    set_password(path, "ana", "y")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(path.parent.iterdir()) == [path]


def test_a_file_whose_owner_cannot_be_kept_is_left_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_password(path, "ana", "x")
    before = path.read_bytes()

    def forbidden(_descriptor: int, _user: int, _group: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", forbidden)
    with pytest.raises(PasswordError, match="its owner could not be kept"):
        set_password(path, "bruno", "x")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_comments_and_empty_lines_are_no_users_and_stay_where_they_are(path: Path) -> None:
    set_password(path, "ana", "x")
    path.write_text(f"# the office\n\n{path.read_text()} # and others\n")
    set_password(path, "bruno", "x")
    set_password(path, "ana", "y")
    assert list(load_passwords(path)) == ["ana", "bruno"]
    assert [line.partition(":")[0] for line in path.read_text().splitlines()] == [
        "# the office",
        "",
        "ana",
        " # and others",
        "bruno",
    ]
    delete_user(path, "ana")
    assert path.read_text().startswith("# the office\n\n # and others\nbruno:")


def test_the_file_goes_on_belonging_to_whom_it_belonged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, int]] = []
    set_password(path, "ana", "x")
    monkeypatch.setattr(os, "fchown", lambda _descriptor, user, group: given.append((user, group)))
    set_password(path, "bruno", "x")
    assert given == [(path.stat().st_uid, path.stat().st_gid)]


def test_a_link_to_the_file_goes_on_being_one(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    set_password(link, "ana", "x")
    assert link.is_symlink()
    assert list(load_passwords(path)) == ["ana"]


def test_a_file_that_cannot_be_replaced_is_left_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_password(path, "ana", "x")
    before = path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PasswordError, match="cannot be written: No space left"):
        set_password(path, "bruno", "x")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("user", ["", "a:b", "a\nb", "a\rb", " a", "a ", "\x85", "a\u2028b", "\t", "#1"])
def test_a_name_that_would_not_be_read_back_is_refused(path: Path, user: str) -> None:
    with pytest.raises(PasswordError, match="user name"):
        set_password(path, user, "x")
    assert not path.exists()


@pytest.mark.parametrize("password", ["", "a\nb", "a\r"])
def test_a_password_is_one_line(path: Path, password: str) -> None:
    with pytest.raises(PasswordError, match="one line"):
        set_password(path, "ana", password)


def test_any_other_name_is_read_back(path: Path) -> None:
    for user in ("ana", "back office", "joão", "a#1", "a/b", "+"):
        set_password(path, user, "x")
    assert list(load_passwords(path)) == ["ana", "back office", "joão", "a#1", "a/b", "+"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ana", "line 1 is not"),
        ("\nana:secret", "line 2 is not"),
        (":" + CHEAP.hash("x"), "line 1 is not"),
        ("ana:$2b$12$abcdefghijklmnopqrstuv", "line 1 is not"),
        ("ana:" + CHEAP.hash("x").replace("argon2id", "argon2i"), "line 1 is not"),
        (f"ana:{CHEAP.hash('x')}\nana:{CHEAP.hash('y')}", "line 2: 'ana' is there twice"),
    ],
    ids=range(6),  # a salt is another in each process
)
def test_a_line_that_is_no_user_with_a_hash_is_named(path: Path, text: str, said: str) -> None:
    path.write_text(text)
    with pytest.raises(PasswordError, match=said) as error:
        load_passwords(path)
    assert "secret" not in str(error.value)


def test_a_file_that_cannot_be_read_is_named(path: Path) -> None:
    with pytest.raises(PasswordError, match=f"{path} cannot be read: No such file"):
        load_passwords(path)
    path.write_bytes(b"\xff")
    with pytest.raises(PasswordError, match="not UTF-8"):
        load_passwords(path)


# Checking


class Counted:
    """A real hasher that counts, and can be held up."""

    def __init__(self) -> None:
        self.verified = 0
        self.hashes: list[str] = []
        self.at_a_time = 0
        self.at_a_time_max = 0
        self.began = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.go_on.set()
        self._lock = threading.Lock()

    def hash(self, password: str) -> str:
        return CHEAP.hash(password)

    def verify(self, password_hash: str, password: bytes) -> bool:
        with self._lock:
            self.verified += 1
            self.hashes.append(password_hash)
            self.at_a_time += 1
            self.at_a_time_max = max(self.at_a_time_max, self.at_a_time)
        self.began.release()
        try:
            assert self.go_on.wait(20)
            return CHEAP.verify(password_hash, password)
        finally:
            with self._lock:
                self.at_a_time -= 1


@pytest.fixture
def hasher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    counted = Counted()
    monkeypatch.setattr(module, "_HASHER", counted)
    yield counted
    counted.go_on.set()


USERS = {"ana": CHEAP.hash("right"), "bruno": CHEAP.hash("right too")}


def checks(passwords: Mapping[str, str] = USERS, checks_max: int = 10, remembered_max: int = 10) -> PasswordChecks:
    return PasswordChecks(passwords, PasswordLimits(2, checks_max, remembered_max))


async def test_the_right_password_of_the_right_user_is_right_and_nothing_else_is() -> None:
    checking = checks()
    assert await checking.is_right("ana", b"right")
    for user, password in [
        ("ana", b"wrong"),
        ("ana", b""),
        ("ana", b"right too"),
        ("bruno", b"right"),
        ("x", b"right"),
    ]:
        for _ in range(2):
            assert not await checking.is_right(user, password)
    checking.close()


async def test_an_unknown_user_costs_a_verification_like_a_wrong_password(hasher: Counted) -> None:
    checking = checks()
    for user in ("ana", "nobody"):
        before = hasher.verified
        assert not await checking.is_right(user, b"wrong")
        assert hasher.verified == before + 1
    known, unknown = (extract_parameters(each) for each in hasher.hashes)
    assert known == unknown


async def test_what_was_right_is_remembered_without_the_password_and_what_was_wrong_is_not(hasher: Counted) -> None:
    checking = checks()
    for _ in range(5):
        assert await checking.is_right("ana", b"right")
        assert not await checking.is_right("ana", b"wrong")
    assert hasher.verified == 1 + 5
    assert "right" not in repr(vars(checking))


async def test_only_so_many_are_remembered_the_latest_used(hasher: Counted) -> None:
    users = {name: CHEAP.hash(name) for name in "abc"}
    checking = checks(users, remembered_max=2)
    for name in "abaca":
        assert await checking.is_right(name, name.encode())
    assert hasher.verified == 3, "a was used again before c came, so b was forgotten"
    assert await checking.is_right("b", b"b")
    assert hasher.verified == 4


async def test_everybody_with_one_password_coming_back_at_once_costs_few_verifications(hasher: Counted) -> None:
    checking = checks(checks_max=1)
    assert all(await asyncio.gather(*(checking.is_right("ana", b"right") for _ in range(500))))
    assert hasher.verified == 1


async def test_the_loop_runs_on_while_passwords_are_checked_by_a_bounded_number_of_threads(hasher: Counted) -> None:
    checking = checks()
    hasher.go_on.clear()
    asked = [asyncio.ensure_future(checking.is_right("ana", str(n).encode())) for n in range(10)]
    for _ in range(2):
        assert await asyncio.to_thread(hasher.began.acquire, timeout=10)
    hasher.go_on.set()
    assert not any(await asyncio.gather(*asked))
    assert hasher.at_a_time_max == 2


async def test_beyond_the_queue_a_check_is_refused_at_once_and_later_there_is_room_again(hasher: Counted) -> None:
    checking = checks(checks_max=3)
    hasher.go_on.clear()
    asked = [asyncio.ensure_future(checking.is_right("ana", str(n).encode())) for n in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyChecks):
        await checking.is_right("bruno", b"right too")
    hasher.go_on.set()
    await asyncio.gather(*asked)
    assert await checking.is_right("bruno", b"right too")


async def test_another_file_holds_at_once_and_tells_whose_password_is_not_what_it_was(hasher: Counted) -> None:
    users = {**USERS, "carla": CHEAP.hash("right")}
    checking = checks(users)
    assert await checking.is_right("ana", b"right")
    changed = checking.replace({"bruno": USERS["bruno"], "ana": CHEAP.hash("new"), "dora": CHEAP.hash("x")})
    assert changed == {"ana", "carla"}
    assert not await checking.is_right("ana", b"right")
    assert await checking.is_right("ana", b"new")
    assert await checking.is_right("dora", b"x")


async def test_reading_the_file_again_forgets_what_was_remembered(hasher: Counted) -> None:
    checking = checks()
    assert await checking.is_right("ana", b"right")
    assert checking.replace(USERS) == set()
    assert await checking.is_right("ana", b"right")
    assert hasher.verified == 2


async def test_a_check_that_began_before_the_file_changed_goes_by_the_new_one(hasher: Counted) -> None:
    checking = checks()
    hasher.go_on.clear()
    asked = asyncio.ensure_future(checking.is_right("ana", b"right"))
    assert await asyncio.to_thread(hasher.began.acquire, timeout=10)
    checking.replace({})
    hasher.go_on.set()
    assert not await asked


async def test_who_gives_up_waiting_does_not_take_the_answer_from_another_who_waits_for_the_same(
    hasher: Counted,
) -> None:
    checking = checks()
    hasher.go_on.clear()
    gone, stays = (asyncio.ensure_future(checking.is_right("ana", b"right")) for _ in range(2))
    assert await asyncio.to_thread(hasher.began.acquire, timeout=10)
    gone.cancel()
    hasher.go_on.set()
    assert await stays
