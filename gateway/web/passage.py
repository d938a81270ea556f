"""What every request brings along past a door: whose trace it is, which door it was, how many bytes it announces."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.telemetry import DOOR, forget_request
from gateway.tracing import TRACE, Value, begin, request_span

ROUTE: Final = "gateway.route"
"""Where a door leaves the template of a request's route in its scope."""
_PROBES: Final = frozenset({"/livez", "/readyz"})
_MOST_DIGITS: Final = 16


class Passage:
    """Pure ASGI around *app*, the door called *door*.

    ``announced_bytes``: Content-Lengths of the requests under way.
    """

    def __init__(self, app: ASGIApp, door: str) -> None:
        self._app = app
        self._door = door
        self.announced_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        forget_request()
        DOOR.set(self._door)
        length, traceparent = _length_and_trace(scope["headers"])
        is_probe = scope["path"] in _PROBES and traceparent is None
        trace = None if is_probe else begin(traceparent)
        TRACE.set(trace)
        self.announced_bytes += length
        try:
            if trace is None or not (trace.sampled or trace.asked):
                await self._app(scope, receive, send)
            else:
                await self._traced(scope, receive, send)
        finally:
            self.announced_bytes -= length

    async def _traced(self, scope: Scope, receive: Receive, send: Send) -> None:
        told: dict[str, Value] = {"door": self._door, "http.request.method": scope.get("method", "WEBSOCKET")}

        async def noting(message: Message) -> None:
            if "status" in message:
                told["http.response.status_code"] = message["status"]
            await send(message)

        with request_span(f"{told['http.request.method']} {self._door}", told):
            try:
                await self._app(scope, receive, noting)
            finally:
                told["http.route"] = scope.get(ROUTE, "none")


def _length_and_trace(headers: list[tuple[bytes, bytes]]) -> tuple[int, bytes | None]:
    length, traceparent, count = 0, None, 0
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and len(value) <= _MOST_DIGITS:
            length = int(value)
        elif name == b"traceparent":
            traceparent, count = value, count + 1
    return length, traceparent if count == 1 else None
