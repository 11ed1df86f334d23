"""The pages as files."""

from pathlib import Path

import pytest

from tests.http.conftest import World, refused


@pytest.fixture
def door(world: World, tmp_path: Path) -> World:
    pages = tmp_path / "web"
    (pages / "parts").mkdir(parents=True)
    (tmp_path / "secret.html").write_text("not a page")
    for name in ("index.html", "app.js", "style.css", "icon.svg", "recado.webmanifest", "parts/list.js", "notes.md"):
        (pages / name).write_text(f"this is {name}")
    return world.with_settings(pages=pages)


async def test_the_first_page_is_at_the_root(door: World) -> None:
    answer = await door.nobody("GET", "/")
    assert (answer.status_code, answer.text) == (200, "this is index.html")
    assert (await door.nobody("GET", "/index.html")).text == answer.text


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/parts/list.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/recado.webmanifest", "application/manifest+json"),
    ],
)
async def test_a_page_is_served_with_its_type_and_a_strict_policy(door: World, path: str, content_type: str) -> None:
    answer = await door.nobody("GET", path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == content_type
    assert answer.headers["content-security-policy"] == (
        "default-src 'self'; connect-src 'self' ws: wss:; style-src 'self'; img-src 'self' data:; "
        "frame-ancestors 'none'; base-uri 'none'"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_a_page_that_the_browser_has_is_not_sent_again(door: World) -> None:
    first = await door.nobody("GET", "/app.js")
    assert first.headers["cache-control"] == "no-cache"
    for known in (first.headers["etag"], f'W/{first.headers["etag"]}, "x"', "*"):
        again = await door.nobody("GET", "/app.js", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    assert (await door.nobody("GET", "/app.js", headers={"If-None-Match": '"old"'})).status_code == 200


@pytest.mark.parametrize(
    "path", ["/../secret.html", "/%2e%2e/secret.html", "/notes.md", "/parts", "/parts/", "/app.js/"]
)
async def test_nothing_but_the_pages_is_served(door: World, path: str) -> None:
    refused(await door.nobody("GET", path), 404, "not_found")


async def test_a_page_is_only_read(door: World) -> None:
    answer = await door.nobody("POST", "/")
    refused(answer, 405, "invalid")
    assert answer.headers["allow"] == "GET, HEAD"
