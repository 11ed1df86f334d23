"""Where traces are sent to, by the setting `traces`."""

import pytest

from recado.app.config import Settings, SettingsError
from recado.app.tracing import endpoint

SECRET = "tests-only-secret-of-more-than-thirty-two-bytes"


@pytest.mark.parametrize("url", ["localhost:4318", "grpc://localhost:4317", "http://", "collector", ""])
def test_what_is_no_url_of_a_collector_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^traces is the http:// or https:// URL of a collector, such as \S+$"):
        Settings(secret=SECRET, traces=url).check()


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://localhost:4318", "http://localhost:4318/v1/traces"),
        ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
        ("https://collector.example/tenant/v1/traces", "https://collector.example/tenant/v1/traces"),
    ],
)
def test_a_url_without_a_path_is_the_collectors_own(url: str, asked: str) -> None:
    Settings(secret=SECRET, traces=url).check()
    assert endpoint(url) == asked
