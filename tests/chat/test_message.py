"""What a sender may send: the payload of a publish as a draft, and the checks that hold on every door."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recado.chat.errors import Invalid, TooLarge
from recado.chat.ids import is_valid_id
from recado.chat.message import MessageDraft, check_draft, parse_message

BODY_BYTES_MAX = 16 * 1024


def check(payload: bytes) -> MessageDraft:
    return check_draft(parse_message(payload), BODY_BYTES_MAX)


@pytest.mark.parametrize(
    ("payload", "draft"),
    [
        (b'{"id":"k3x9","body":"Chegou!"}', MessageDraft("Chegou!", "k3x9")),
        (b' \n\t{"body":"hi"} ', MessageDraft("hi")),
        (b'{"body":"hi","id":null}', MessageDraft("hi")),
        ('{"body":"\\u00e9 \\ud83d\\ude00 😀"}'.encode(), MessageDraft("é 😀 😀")),
        ("Olá, não é JSON".encode(), MessageDraft("Olá, não é JSON")),
        (b'["a", "list"]', MessageDraft('["a", "list"]')),
        (b'"text"', MessageDraft('"text"')),
        (b"42", MessageDraft("42")),
        (b"null", MessageDraft("null")),
        (b"  spaces stay ", MessageDraft("  spaces stay ")),
        (b"not { first", MessageDraft("not { first")),
        (b'{"body":"a","body":"b"}', MessageDraft("b")),
    ],
)
def test_a_json_object_is_a_draft_and_any_other_text_is_a_body(payload: bytes, draft: MessageDraft) -> None:
    assert check(payload) == draft


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b'{"body":"hi"',
        b'{"body":"hi"} x',
        b'{"body":"hi",}',
        b"{'body':'hi'}",
        b'{"id":"k3x9"}',
        b"{}",
        b'{"body":null}',
        b'{"body":42}',
        b'{"body":["hi"]}',
        b'{"body":"hi","id":7}',
        b'{"body":"hi","subject":"unknown field"}',
        b'{"body":"hi","id":""}',
        b'{"body":"hi","id":"a b"}',
        b'{"body":"hi","id":"' + b"x" * 65 + b'"}',
        b'{"body":"\xff"}',
        b'{"body":"hi","\xff":1}',
        b'{"body":"\xed\xa0\x80"}',
        b'{"body":"\\ud800"}',
        b'{"body":"\\udc00 x"}',
        b'{"body":"\\ud800\\ud800"}',
        b"\xff\xfe",
        b"caf\xe9",
        b"\xc0\xae",
        b'{"body":"a\\u0000b"}',
        b"a\x00b",
        b'{"body":' * 50_000,
    ],
    ids=lambda payload: repr(payload[:40]),
)
def test_what_is_neither_is_invalid_and_not_too_large(payload: bytes) -> None:
    with pytest.raises(Invalid) as refusal:
        check(payload)
    assert not isinstance(refusal.value, TooLarge)
    assert len(refusal.value.message) < 300


@pytest.mark.parametrize("body", ["", " ", "\n\t \r\n", "\u00a0", "\u2003\u3000", "\u2028"])
def test_an_empty_or_blank_body_is_invalid(body: str) -> None:
    for payload in (body.encode(), json.dumps({"body": body}).encode()):
        with pytest.raises(Invalid, match="empty"):
            check(payload)


@pytest.mark.parametrize("character", ["x", "é", "€", "😀"])
def test_a_body_may_have_16_kib_of_utf_8_and_not_one_character_more(character: str) -> None:
    size = len(character.encode())
    rest = BODY_BYTES_MAX % size
    most = character * (BODY_BYTES_MAX // size) + "x" * rest
    assert len(most.encode()) == BODY_BYTES_MAX

    assert check(json.dumps({"body": most}).encode()).body == most
    assert check(most.encode()).body == most
    for more in (most + "x", most + character):
        for payload in (more.encode(), json.dumps({"body": more}).encode()):
            with pytest.raises(TooLarge, match="16384 bytes"):
                check(payload)


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: ("{" + text).encode(errors="surrogatepass")))
def test_any_bytes_are_a_good_draft_or_invalid_and_nothing_else(payload: bytes) -> None:
    try:
        draft = check(payload)
    except Invalid:
        return
    assert draft.body.strip()
    assert "\x00" not in draft.body
    draft.body.encode()
    assert draft.id is None or is_valid_id(draft.id)


@given(st.text(min_size=1, max_size=100), st.none() | st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True))
def test_a_good_message_comes_through_as_it_was_sent(body: str, message_id: str | None) -> None:
    if body.strip() and "\x00" not in body:
        payload = json.dumps({"body": body, "id": message_id}, ensure_ascii=False).encode()
        assert check(payload) == MessageDraft(body, message_id)
