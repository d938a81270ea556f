"""The console page: a fixed list of files, read once. Nothing of a request's path ever reaches the file system."""

import gzip
import hashlib
import re
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
    "advice.js",
    "api.js",
    "batch.js",
    "browser.js",
    "chart.js",
    "chinese.js",
    "client.js",
    "crc64.js",
    "drop.js",
    "english.js",
    "item.js",
    "list.js",
    "look.js",
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
    "storage.js",
    "summary.js",
    "token.js",
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
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
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
    """A handler that answers with the file as it is now; browsers keep it and ask each time whether it still holds.

    It is compressed once, here, for those that take gzip: the page is bytes over a phone's network.
    """
    whole = path.read_bytes()
    compressed = gzip.compress(whole, mtime=0)
    etag = hashlib.sha256(whole).hexdigest()[:32]
    common = {**_SECURITY_HEADERS, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    content_type = {"Content-Type": _TYPES[path.suffix]}
    plain = (whole, {**common, "ETag": f'"{etag}"'}, content_type)
    small = (compressed, {**common, "ETag": f'"{etag}-gzip"'}, {**content_type, "Content-Encoding": "gzip"})

    async def serve(request: Request) -> Response:
        body, headers, of_body = small if _takes_gzip(request.headers.get("accept-encoding", "")) else plain
        if _names(request.headers.get("if-none-match", ""), headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return Response(body, headers={**headers, **of_body})

    return serve


def _takes_gzip(accept_encoding: str) -> bool:
    """Whether the header names gzip and does not refuse it (RFC 9110 §12.5.3). ``*`` is left to those who mean it."""
    for offer in accept_encoding.split(","):
        coding, _, weight = offer.partition(";")
        if coding.strip().lower() == "gzip":
            return not re.fullmatch(r"\s*q=0(\.0*)?\s*", weight)
    return False


def _names(if_none_match: str, etag: str) -> bool:
    """Whether the header lists *etag*, weak or strong (RFC 9110 §13.1.2): a proxy that compresses makes it weak."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags
