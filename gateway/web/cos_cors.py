"""What browsers ask before and read after at the COS door: configured origins may use it, as a bucket's rules let them.

A signature is never ambient, so requests of other pages are answered too; those pages cannot read the answers.
"""

from collections.abc import Collection, Mapping
from typing import Final

from gateway.web.cos_answers import CosAnswer, Header
from gateway.web.cos_problems import CosRefusal

_EXPOSED: Final = (
    "Accept-Ranges, Content-Length, Date, ETag, Last-Modified, Location, Retry-After, x-cos-acl, x-cos-content-sha1, "
    "x-cos-hash-crc64ecma, x-cos-next-append-position, x-cos-object-type, x-cos-request-id, x-cos-storage-class, "
    "x-cos-trace-id, x-cos-version-id"
)
_ALWAYS: Final = frozenset(_EXPOSED.lower().split(", "))
_PREFLIGHT_SECONDS: Final = 600


class CosCors:
    """Speaks to the pages of *allowed* origins, ``scheme://host[:port]``."""

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = frozenset(origin.lower() for origin in allowed)

    def answer_headers(self, headers: Mapping[str, str], answered: Collection[Header]) -> list[Header]:
        """What lets the page read the answer, with the headers *answered*, to a request with lower-case *headers*."""
        origin = headers.get("origin", "")
        if origin.lower() not in self._allowed:
            return [("Vary", "Origin")] if self._allowed and origin else []
        return [
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", ", ".join([_EXPOSED, *_of_the_object(answered)])),
            ("Vary", "Origin"),
        ]

    def preflight(self, headers: Mapping[str, str]) -> CosAnswer:
        """OPTIONS Object, doc 8288. No signature: browsers send none.

        Raises:
            CosRefusal: AccessDenied: the page may not call, or it is no preflight.
        """
        wanted = headers.get("access-control-request-headers", "")
        if headers.get("origin", "").lower() not in self._allowed or "access-control-request-method" not in headers:
            raise CosRefusal("AccessDenied", "The page's origin is not among those that may call.")
        return CosAnswer(
            200,
            (
                ("Access-Control-Allow-Methods", "GET, HEAD, PUT, POST, DELETE"),
                *((("Access-Control-Allow-Headers", wanted),) if wanted else ()),
                ("Access-Control-Max-Age", str(_PREFLIGHT_SECONDS)),
            ),
        )


def _of_the_object(answered: Collection[Header]) -> list[str]:
    """What an answer tells of one object and of no other, its ``x-cos-meta-*`` foremost."""
    names = {name.lower() for name, _ in answered}
    return sorted(name for name in names - _ALWAYS if name.startswith(("x-cos-", "content-")))
