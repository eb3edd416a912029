"""The web page's files, read once, with headers that block all other content."""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from .body import accepted_encodings
from .status import HttpError

FOLDER = Path(__file__).resolve().parents[2] / "page"
PREFIX = "/page/"
_INDEX = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Browsers revalidate each time and get 304, so an update never mixes old and new modules.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True)
class Asset:
    """One file of the page."""

    content: bytes
    """Its bytes."""
    compressed: bytes
    """Its gzip-compressed content."""
    media_type: str
    """What Content-Type says."""
    etag: str
    """Its ETag, which changes with the content."""


class Assets:
    """The files by URL path. Paths are looked up and never joined, so no request reaches another file."""

    def __init__(self, by_path: Mapping[str, Asset]) -> None:
        self.by_path = by_path

    def answer(self, request: Request) -> Response:
        """Returns a file, or 304 if the browser has the current one.

        Raises:
            HttpError: no such file.
        """
        path = str(request.scope["path"])
        asset = self.by_path.get(path)
        if asset is None:
            raise HttpError(404, f"the page has no file {path[:200]}; GET / is the page")
        headers = {**HEADERS, "ETag": asset.etag}
        if asset.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in accepted_encodings(request.headers.get("accept-encoding", "")):
            headers["Content-Encoding"] = "gzip"
            return Response(asset.compressed, headers=headers, media_type=asset.media_type)
        return Response(asset.content, headers=headers, media_type=asset.media_type)


def read_assets(folder: Path = FOLDER) -> Assets:
    """Reads and compresses every file of the page."""
    by_path = {
        PREFIX + path.relative_to(folder).as_posix(): _read(path)
        for path in sorted(folder.rglob("*"))
        if path.suffix in _TYPES
    }
    return Assets({**by_path, "/": by_path.pop(PREFIX + _INDEX)})


def _read(path: Path) -> Asset:
    content = path.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
    return Asset(content, gzip.compress(content, mtime=0), _TYPES[path.suffix], etag)
