"""A webhook's receiver in a thread: it checks signatures as the README says, and keeps what it was told."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from tests.system.processes import wait_until

HOOK_SECRET: Final = "canary-webhook-secret-0123456789-abcdef"
FAR_OFF_SECONDS: Final = 300


@dataclass
class Receiver:
    """``status`` is what it answers; ``events`` what it took, ``tried`` every event id it was told."""

    status: int = 204
    url: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    forged: list[str] = field(default_factory=list)

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """The status for one request."""
        problem = _problem(headers, body)
        if problem:
            self.forged.append(problem)
            return 400
        event = json.loads(body)
        self.tried.append(event["id"])
        if 200 <= self.status < 300:
            self.events.append(event)
        return self.status

    def until(self, count: int, seconds: float = 20) -> list[dict[str, Any]]:
        """What it took, once those are *count* events."""
        wait_until(lambda: len(self.events) >= count, f"{count} events", seconds)
        return self.events

    def of(self, task_id: str) -> list[str]:
        """The types of the events that it took of one task."""
        return [event["type"] for event in self.events if event["task"]["id"] == task_id]


def _problem(headers: dict[str, str], body: bytes) -> str:
    event_id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "0")
    if abs(time.time() - int(stamp)) > FAR_OFF_SECONDS:
        return "timestamp"
    signed = b".".join((event_id.encode(), stamp.encode(), body))
    mine = "v1," + base64.b64encode(hmac.new(HOOK_SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    if not any(hmac.compare_digest(mine, theirs) for theirs in headers.get("webhook-signature", "").split(" ")):
        return "signature"
    if headers.get("idempotency-key") != event_id or json.loads(body)["id"] != event_id:
        return "id"
    return ""


@contextmanager
def running_receiver(port: int = 0) -> Iterator[Receiver]:
    """A receiver on 127.0.0.1 while the block lasts."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = receiver.take({name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(status)
            if status != 204:
                self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
