"""Every operation of REST as a request, and every websocket's path: what tests of all of them go through."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from starlette.routing import Route, WebSocketRoute

from gateway.app import Gateway

WEBSOCKET: Final = "WEBSOCKET"


@dataclass(frozen=True, slots=True)
class RestCall:
    """One request about what somebody began: ``{task}``, ``{batch}``, ``{upload}`` and ``{key}`` are put in.

    ``refused``: the code of the answer where the caller may not know of it, "" where it is an answer without it.
    """

    method: str
    path: str
    query: str = ""
    refused: str = "task_not_found"
    json: Mapping[str, Any] | None = None
    content: bytes | None = None

    @property
    def takes_a_ticket(self) -> bool:
        return "{task_id}" in self.path and self.method != WEBSOCKET

    def target(self, **names: str) -> str:
        """Path and query for what *names* call it."""
        path = self.path.replace("{task_id}", "{task}").replace("{batch_id}", "{batch}")
        path = path.replace("{upload_id}", "{upload}").replace("{key:path}", "{key}").replace("{number}", "1")
        return (path + self.query).format(**names)


_BYTES: Final = b"x" * (1 << 20)
_ONE: Final = "/v1/tasks/{task_id}"
_BATCH: Final = "/v1/batches/{batch_id}"
CALLS: Final = (
    RestCall("GET", "/v1/tasks", "?limit=100", refused=""),
    RestCall("GET", _ONE),
    RestCall("GET", _ONE + "/parts"),
    RestCall("PUT", _ONE + "/parts/{number}", content=_BYTES),
    RestCall("PUT", _ONE + "/content", content=_BYTES + _BYTES),
    RestCall("POST", _ONE + "/complete", json={}),
    RestCall("POST", _ONE + "/pause"),
    RestCall("POST", _ONE + "/restart"),
    RestCall("POST", _ONE + "/cancel"),
    RestCall("POST", "/v1/tasks", refused="key_not_allowed", json={"key": "{key}", "bucket": "files", "size": 1}),
    RestCall("POST", "/v1/files", "?key={key}&bucket=files", refused="key_not_allowed", content=b"x"),
    RestCall("PUT", "/v1/objects/{key:path}", "?bucket=files", refused="key_not_allowed", content=b"x"),
    RestCall("HEAD", "/v1/objects/{key:path}", "?bucket=files", refused="key_not_allowed"),
    RestCall(
        "POST", "/v1/objects/{key:path}", "?append&position=0&bucket=files", refused="key_not_allowed", content=b"x"
    ),
    RestCall("GET", "/v1/uploads", "?bucket=files", refused=""),
    RestCall("GET", "/v1/uploads/{upload_id}/parts", "?key={key}&bucket=files", refused="key_not_allowed"),
    RestCall("DELETE", "/v1/uploads/{upload_id}", "?key={key}&bucket=files", refused="key_not_allowed"),
    RestCall("GET", _BATCH, refused="batch_not_found"),
    RestCall("POST", _BATCH + "/pause", refused="batch_not_found"),
    RestCall("POST", _BATCH + "/restart", refused="batch_not_found"),
    RestCall("POST", _BATCH + "/cancel", refused="batch_not_found"),
    RestCall("POST", "/v1/batches", refused="", json={"files": [{"key": "{key}", "bucket": "files", "size": 1}]}),
    RestCall("POST", "/v1/keys", refused="key_not_allowed", json={"prefix": "{key}", "bucket": "files"}),
    RestCall(WEBSOCKET, "/v1/progress", refused=""),
    RestCall(WEBSOCKET, _ONE + "/progress"),
)


def operations(gateway: Gateway) -> set[tuple[str, str]]:
    """Method and path of every operation under ``/v1``; HEAD comes with each GET."""
    app: Any = gateway.public
    while not hasattr(app, "routes"):
        app = app._app
    found: set[tuple[str, str]] = set()
    for route in app.routes:
        if isinstance(route, WebSocketRoute):
            found.add((WEBSOCKET, route.path))
        elif isinstance(route, Route) and route.path.startswith("/v1/"):
            methods = route.methods or set()
            found |= {(method, route.path) for method in methods - ({"HEAD"} if "GET" in methods else set())}
    return found
