"""Who is asking, and whom they may act as."""

from __future__ import annotations

import pytest

from recado.chat.errors import Forbidden, Invalid
from recado.chat.principal import Principal


def test_a_user_acts_as_themself_and_is_not_the_host() -> None:
    user = Principal("ana")
    assert user.require_user() == "ana"
    with pytest.raises(Forbidden):
        user.require_host()


def test_the_host_is_the_host_also_as_a_user_but_is_no_user_by_itself() -> None:
    Principal(None, is_host=True).require_host()
    Principal("ana", is_host=True).require_host()
    assert Principal("ana", is_host=True).require_user() == "ana"
    with pytest.raises(Invalid, match="Recado-User"):
        Principal(None, is_host=True).require_user()
