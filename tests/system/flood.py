"""A process that asks too much: one request, again and again, over several connections, at a rate or as fast as it can.

python -m tests.system.flood PORT CONNECTIONS PER_SECOND BODY_BYTES METHOD PATH    (the token on stdin)
"""

import http.client
import sys
import threading
import time


def flood(port: int, token: str, per_second: float, size: int, method: str, path: str) -> None:
    """Send until the process is ended; 0 *per_second* means without a pause."""
    body, due = bytes(size), time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    while True:
        try:
            connection.request(method, path, body=body, headers={"Authorization": f"Bearer {token}"})
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            connection.close()
        if per_second:
            due += 1 / per_second
            time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    port, connections, per_second, size = (int(text) for text in sys.argv[1:5])
    token = sys.stdin.readline().strip()
    for _ in range(connections):
        given = (port, token, per_second / connections, size, *sys.argv[5:7])
        threading.Thread(target=flood, args=given, daemon=True).start()
    threading.Event().wait()
