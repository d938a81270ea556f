"""The console page: a fixed list of files, read once. Nothing of a request's path ever reaches the file system."""

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FOLDER: Final = Path(__file__).parent.parent / "console"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".ts": "text/plain; charset=utf-8",
}
CONSOLE_FILES: Final = (
    "index.html",
    "style.css",
    "api.js",
    "browser.js",
    "client.js",
    "crc64.js",
    "drop.js",
    "item.js",
    "md5.js",
    "memory.js",
    "page.js",
    "resume.js",
    "retry.js",
    "row.js",
    "seed.js",
    "sender.js",
    "slots.js",
    "speed.js",
    "stop.js",
    "summary.js",
    "upload-wx.js",
    "upload.d.ts",
    "upload.js",
    "uploads.js",
    "watch.js",
    "weixin.js",
    "words.js",
)
_SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def console_routes() -> list[Route]:
    """GET and HEAD of ``/`` (the page) and of ``/console/<file>``.

    Raises:
        OSError: a file is not where the package should have it.
    """
    routes = [Route(f"/console/{name}", _serving(_FOLDER / name), methods=["GET"]) for name in CONSOLE_FILES]
    return [Route("/", _serving(_FOLDER / "index.html"), methods=["GET"]), *routes]


def _serving(path: Path) -> Callable[[Request], Awaitable[Response]]:
    """A handler that answers with the file as it is now; browsers keep it and ask each time whether it still holds."""
    body = path.read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {**_SECURITY_HEADERS, "ETag": etag, "Cache-Control": "no-cache"}

    async def serve(request: Request) -> Response:
        if _names(request.headers.get("if-none-match", ""), etag):
            return Response(status_code=304, headers=headers)
        return Response(body, headers={**headers, "Content-Type": _TYPES[path.suffix]})

    return serve


def _names(if_none_match: str, etag: str) -> bool:
    """Whether the header lists *etag*, weak or strong (RFC 9110 §13.1.2): a proxy that compresses makes it weak."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags
