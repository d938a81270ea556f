"""JSON answers with a long list, rendered a few rows at a time: a thousand at once hold up everybody for 40 ms."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from starlette.responses import Response

from gateway.web.slices import in_slices

ROWS_AT_ONCE: Final = 50

T = TypeVar("T")


async def list_answer(
    name: str,
    rows: Sequence[T],
    render: Callable[[T], Any],
    others: Mapping[str, Any],
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An object with the member *name*, which is *rows* as *render* makes them, and the *others*, at least one."""
    pieces: list[bytes] = []
    async for some in in_slices(rows, ROWS_AT_ONCE):
        pieces.append(_encoded(list(map(render, some)))[1:-1])
    body = b"".join((b'{"', name.encode(), b'":[', b",".join(pieces), b"],", _encoded(others)[1:]))
    return Response(body, status, headers, media_type="application/json")


def _encoded(value: object) -> bytes:
    """*value* as Starlette's JSONResponse writes it."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
