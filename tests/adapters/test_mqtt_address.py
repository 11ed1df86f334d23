"""The URL of an external broker."""

import pytest

from recado.adapters.broker.mqtt import BrokerAddress, parse_address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://broker", BrokerAddress((("broker", 1883),), False, None, None)),
        ("mqtts://broker/", BrokerAddress((("broker", 8883),), True, None, None)),
        ("mqtt://re%40cado:p%3Aw@[::1]:2000", BrokerAddress((("::1", 2000),), False, "re@cado", "p:w")),
        ("mqtt://recado:p@ss:w@broker", BrokerAddress((("broker", 1883),), False, "recado", "p@ss:w")),
        ("mqtt://recado@broker:1", BrokerAddress((("broker", 1),), False, "recado", None)),
        ("mqtt://u:p@a,b:2000,c", BrokerAddress((("a", 1883), ("b", 2000), ("c", 1883)), False, "u", "p")),
    ],
)
def test_a_url_says_where_and_as_whom(url: str, address: BrokerAddress) -> None:
    assert parse_address(url) == address


@pytest.mark.parametrize(
    "url",
    [
        *("mqtt://", "mqtt://recado:secret@", "mqtt://recado:secret@a,,b", "mqtt://:secret@a", "mqtt://a:0"),
        *("mqtt://recado:secret", "mqtt://recado:secret@a:port", "mqtt://a:70000", "mqtt://recado:secret@a/path"),
        *("http://recado:secret@a", "recado:secret@a", "secret", "", "mqtt://[::1", "mqtt://a?secret=1"),
    ],
)
def test_another_url_is_refused_with_a_text_that_says_the_form_and_not_the_password(url: str) -> None:
    with pytest.raises(ValueError, match="mqtt://user:password@host:1883") as refused:
        parse_address(url)
    assert "secret" not in str(refused.value)


def test_a_url_is_shown_without_the_password() -> None:
    assert str(parse_address("mqtts://recado:secret@[::1],b:2000")) == "mqtts://[::1]:8883,b:2000"
