"""The pages: static files of one directory, read once at the start and served from memory.

A path is looked up in a dict of known files, so there is no way out of the directory; only the file types in `TYPES`
are served at all. Every answer carries an ETag and is revalidated, so a new version shows at the next load.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from recado.http.answer import Answer

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
}
_POLICY = (
    "default-src 'self'; connect-src 'self' ws: wss:; style-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = (
    (b"cache-control", b"no-cache"),
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Page(NamedTuple):
    body: bytes
    etag: bytes
    headers: tuple[tuple[bytes, bytes], ...]


def read_pages(directory: Path | None) -> dict[str, Page]:
    """The pages by URL path; an `index.html` also answers for its directory."""
    pages: dict[str, Page] = {}
    for file in sorted(directory.rglob("*")) if directory is not None else ():
        if directory is None or file.suffix not in TYPES or not file.is_file():
            continue
        path = "/" + file.relative_to(directory).as_posix()
        pages[path] = _page(file)
        if file.name == "index.html":
            pages[path.removesuffix("index.html")] = pages[path]
    return pages


def _page(file: Path) -> Page:
    body = file.read_bytes()
    etag = b'"%s"' % hashlib.sha256(body).hexdigest()[:32].encode()
    return Page(body, etag, ((b"content-type", TYPES[file.suffix].encode()), (b"etag", etag), *_HEADERS))


def page_answer(page: Page, headers: Mapping[bytes, bytes]) -> Answer:
    """The page, or 304 for a reader who has it."""
    known = [etag.strip().removeprefix(b"W/") for etag in headers.get(b"if-none-match", b"").split(b",")]
    if page.etag in known or b"*" in known:
        return Answer(304, None, page.headers)
    return Answer(200, page.body, page.headers)
