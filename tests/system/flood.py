"""A process that asks too much: one request, again and again, over several connections, at a rate or as fast as it can.

python -m tests.system.flood    (a ``Flood`` as JSON on stdin)
"""

import http.client
import json
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Flood:
    """What is asked: *per_second* requests in all, 0 without a pause, each with *text* or *size* zeros as its body."""

    port: int
    method: str
    path: str
    connections: int = 1
    per_second: float = 0
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    size: int = 0


def flood(asked: Flood) -> None:
    """Send over one of the connections until the process is ended."""
    body, due = asked.text.encode() or bytes(asked.size), time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", asked.port, timeout=30)
    while True:
        try:
            connection.request(asked.method, asked.path, body=body, headers=asked.headers)
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            connection.close()
        if asked.per_second:
            due += asked.connections / asked.per_second
            time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    told: dict[str, Any] = json.loads(sys.stdin.readline())
    for _ in range(told["connections"]):
        threading.Thread(target=flood, args=(Flood(**told),), daemon=True).start()
    threading.Event().wait()
