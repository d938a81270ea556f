"""The load generators, each run as a process of its own so that the bench's own work is nobody's CPU.

``python -m tests.bench.load LOAD …`` prints one JSON document a line. Where the bench must look at a server in the
middle of a load, the load prints ``{"stage": …}`` and waits for a line on its input.
"""

import argparse
import http.client
import json
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, Final
from urllib.parse import urlencode

from gateway.cos.signing import Credentials, authorization
from tests.bench.doors import MIB, Door, random_bytes, whole_upload
from tests.bench.load_slow import hold_slow_clients
from tests.bench.load_small import send_small
from tests.bench.load_watch import watch_tasks
from tests.bench.stack import TOKEN_SECRET

_PIECE_BYTES: Final = 8 * MIB


class Refused(Exception):
    """A server answered otherwise than with success."""


def report(document: dict[str, Any]) -> None:
    """Print one line for the bench."""
    print(json.dumps(document), flush=True)


def pause(stage: str) -> None:
    """Tell the bench that *stage* is reached and go on when it says so."""
    report({"stage": stage})
    sys.stdin.readline()


class Caller:
    """One keep-alive connection to a server on loopback."""

    def __init__(self, port: int, token: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def json(self, method: str, target: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a small JSON request and return the JSON answer."""
        body = b"" if document is None else json.dumps(document).encode()
        answer = self.send(method, target, {"Content-Type": "application/json"}, [body])
        result: dict[str, Any] = json.loads(answer)
        return result

    def send(self, method: str, target: str, headers: dict[str, str], pieces: list[bytes]) -> bytes:
        """Send a request whose body is *pieces* end to end; return the answer's body.

        Raises:
            Refused: the status is not 2xx.
        """
        self._connection.putrequest(method, target, skip_accept_encoding=True)
        length = str(sum(len(piece) for piece in pieces))
        for name, value in {"Content-Length": length, **self.headers, **headers}.items():
            self._connection.putheader(name, value)
        self._connection.endheaders()
        for piece in pieces:
            self._connection.send(piece)
        answer = self._connection.getresponse()
        body = answer.read()
        if not 200 <= answer.status < 300:
            raise Refused(f"{method} {target}: {answer.status} {body[:500]!r}")
        return body


def pieces_of(size: int) -> list[bytes]:
    """A body of *size* bytes, in pieces that share one buffer."""
    whole, rest = divmod(size, _PIECE_BYTES)
    piece = random_bytes(min(size, _PIECE_BYTES))
    return [piece] * whole + ([piece[:rest]] if rest else [])


def send_parts(arguments: argparse.Namespace) -> dict[str, Any]:
    """Upload one object in parts over several connections: a task's parts, or as many PUTs to the store.

    With ``--mark N`` it pauses before the last N parts. The time runs from the first request to the last answer.
    """
    size = arguments.part_size * arguments.count
    key = f"bench/parts-{uuid.uuid4().hex}"
    door = Door(arguments.door)
    caller = Caller(arguments.port, arguments.token)
    started = time.perf_counter()
    prefix = f"/{key}/"
    if door is Door.GATEWAY:
        task = caller.json("POST", "/v1/tasks", {"key": key, "size": size, "part_size": arguments.part_size})
        prefix = f"/v1/tasks/{task['id']}/parts/"

    def request_of(number: int) -> tuple[str, dict[str, str]]:
        return f"{prefix}{number}", caller.headers

    numbers = range(1, arguments.count + 1)
    marked = arguments.count - arguments.mark
    _put_numbers(arguments, arguments.port, request_of, iter(numbers[:marked]))
    if arguments.mark:
        pause("marked")
        _put_numbers(arguments, arguments.port, request_of, iter(numbers[marked:]))
        pause("sent")
    if door is Door.GATEWAY:
        # A new connection: the first one has been idle long enough to be closed.
        done = Caller(arguments.port, arguments.token).json("POST", f"{prefix.removesuffix('parts/')}complete")
        if done["state"] != "success":
            raise Refused(f"the task ended in {done['state']}: {done['error']}")
    return {"seconds": time.perf_counter() - started, "bytes": size, "count": arguments.count}


def send_cos_parts(arguments: argparse.Namespace) -> dict[str, Any]:
    """Upload one object as ``send_parts`` does, but its parts through the COS door, signed with an issued key."""
    size = arguments.part_size * arguments.count
    caller = Caller(arguments.port, arguments.token)
    key = caller.json("POST", "/v1/keys", {})
    credentials = Credentials(key["tmp_secret_id"], key["tmp_secret_key"], key["session_token"])
    window = {"start": key["start_time"], "end": key["expired_time"]}
    started = time.perf_counter()
    named = {"key": f"bench/parts-{uuid.uuid4().hex}", "size": size, "part_size": arguments.part_size}
    task = caller.json("POST", "/v1/tasks", named)

    def request_of(number: int) -> tuple[str, dict[str, str]]:
        path, query = f"/{task['key']}", {"partNumber": str(number), "uploadId": task["upload_id"]}
        signed = authorization(credentials, "PUT", path, query, {}, **window)
        headers = {"Authorization": signed, "x-cos-security-token": key["session_token"]}
        return f"{path}?{urlencode(query)}", headers

    _put_numbers(arguments, arguments.cos_port, request_of, iter(range(1, arguments.count + 1)))
    done = Caller(arguments.port, arguments.token).json("POST", f"/v1/tasks/{task['id']}/complete")
    if done["state"] != "success":
        raise Refused(f"the task ended in {done['state']}: {done['error']}")
    return {"seconds": time.perf_counter() - started, "bytes": size, "count": arguments.count}


def _put_numbers(
    arguments: argparse.Namespace,
    port: int,
    request_of: Callable[[int], tuple[str, dict[str, str]]],
    numbers: Iterator[int],
) -> None:
    """PUT a body for each number, to the target and with the headers that *request_of* tells, over ``--connections``
    connections that share the work.
    """
    pieces = pieces_of(arguments.part_size)
    failures: list[BaseException] = []

    def work() -> None:
        caller = Caller(port)
        try:
            for number in numbers:
                target, headers = request_of(number)
                caller.send("PUT", target, headers, pieces)
        except (Refused, OSError, http.client.HTTPException) as failure:
            failures.append(failure)

    workers = [threading.Thread(target=work) for _ in range(arguments.connections)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]


def send_file(arguments: argparse.Namespace) -> dict[str, Any]:
    """Upload one file of ``--size`` bytes in one request, as each door spells it."""
    upload = whole_upload(Door(arguments.door), f"bench/file-{uuid.uuid4().hex}", arguments.size, arguments.token)
    caller = Caller(arguments.port)
    pieces = [upload.before, *pieces_of(arguments.size), upload.after]
    started = time.perf_counter()
    caller.send(upload.method, upload.target, upload.headers, pieces)
    return {"seconds": time.perf_counter() - started, "bytes": arguments.size, "count": 1}


def send_stream(arguments: argparse.Namespace) -> dict[str, Any]:
    """Upload one raw body of ``--size`` bytes to the gateway, with ``--async-limit`` parts in flight (0: default)."""
    caller = Caller(arguments.port, arguments.token)
    limit = f"&async_limit={arguments.async_limit}" if arguments.async_limit else ""
    target = f"/v1/files?key=bench/stream-{uuid.uuid4().hex}{limit}"
    pieces = pieces_of(arguments.size)
    started = time.perf_counter()
    caller.send("POST", target, {"Content-Type": "application/octet-stream"}, pieces)
    return {"seconds": time.perf_counter() - started, "bytes": arguments.size, "count": 1}


def small(arguments: argparse.Namespace) -> dict[str, Any]:
    """Upload 16 KiB files over many connections for ``--seconds``."""
    return send_small(
        Door(arguments.door),
        arguments.port,
        arguments.token,
        connections=arguments.connections,
        seconds=arguments.seconds,
    )


def sdk(arguments: argparse.Namespace) -> dict[str, Any]:
    """Upload one file of ``--size`` bytes with Tencent's SDK: at the gateway's COS door, or straight to the store."""
    from tests.bench.load_sdk import upload_with_sdk  # half a second that the other loads need not wait

    if Door(arguments.door) is Door.STORE:
        return upload_with_sdk(arguments.port, None, arguments.size)
    key = Caller(arguments.port, arguments.token).json("POST", "/v1/keys", {})
    return upload_with_sdk(arguments.cos_port, key, arguments.size)


def keys(arguments: argparse.Namespace) -> dict[str, Any]:
    """Have ``--count`` keys issued, one after the other."""
    caller = Caller(arguments.port, arguments.token)
    started = time.perf_counter()
    for _ in range(arguments.count):
        caller.json("POST", "/v1/keys", {})
    return {"seconds": time.perf_counter() - started, "bytes": 0, "count": arguments.count}


def listing(arguments: argparse.Namespace) -> dict[str, Any]:
    """Open ``--count`` uploads, then ask eleven times for the list of them all; the middle time counts."""
    caller = Caller(arguments.port, arguments.token)
    prefix = f"bench/{uuid.uuid4().hex}/"
    keys = [f"{prefix}{number}" for number in range(arguments.count)]
    tasks = [caller.json("POST", "/v1/tasks", {"key": key, "size": 2 * MIB})["id"] for key in keys]
    seconds = []
    for _ in range(11):
        started = time.perf_counter()
        found = caller.json("GET", f"/v1/uploads?{urlencode({'prefix': prefix, 'limit': 1000})}")
        seconds.append(time.perf_counter() - started)
    if len(found["uploads"]) != min(1000, arguments.count):
        raise Refused(f"{len(found['uploads'])} uploads were listed, {arguments.count} are open")
    for task in tasks:
        caller.json("POST", f"/v1/tasks/{task}/cancel")
    return {"seconds": median(seconds), "bytes": 0, "count": 1}


def slow(arguments: argparse.Namespace) -> dict[str, Any]:
    """Hold ``--count`` tasks at half of their only part, and ask for their states meanwhile."""
    caller = Caller(arguments.port, arguments.token)
    wanted = {"size": arguments.part_size, "part_size": arguments.part_size}
    tasks = [
        caller.json("POST", "/v1/tasks", {"key": f"bench/slow-{uuid.uuid4().hex}", **wanted})["id"]
        for _ in range(arguments.count)
    ]
    pause("created")
    return hold_slow_clients(arguments.port, arguments.token, tasks, arguments.part_size, held=lambda: pause("held"))


def watch(arguments: argparse.Namespace) -> dict[str, Any]:
    """``--count`` tasks, each of another subject whom ``--connections`` websockets watch, for ``--seconds``."""
    return watch_tasks(
        arguments.port,
        TOKEN_SECRET,
        subjects=arguments.count,
        watchers=arguments.connections,
        seconds=arguments.seconds,
        stage=pause,
    )


def main() -> None:
    """Read the command line, run one load, print its figures."""
    parser = argparse.ArgumentParser()
    loads = {
        "parts": send_parts,
        "cos_parts": send_cos_parts,
        "file": send_file,
        "stream": send_stream,
        "small": small,
        "slow": slow,
        "sdk": sdk,
        "keys": keys,
        "listing": listing,
        "watch": watch,
    }
    parser.add_argument("load", choices=loads)
    parser.add_argument("--door", choices=[door.value for door in Door], default=Door.GATEWAY.value)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cos-port", type=int, default=0, help="of the gateway's COS door")
    parser.add_argument("--token", default="")
    parser.add_argument("--size", type=int, default=256 * MIB, help="bytes of a whole file")
    parser.add_argument("--part-size", type=int, default=8 * MIB, help="bytes of a part")
    parser.add_argument("--count", type=int, default=48, help="parts, slow clients, keys or uploads")
    parser.add_argument("--mark", type=int, default=0, help="pause before this many last parts, and after them")
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--async-limit", type=int, default=0, help="parts in flight; 0 leaves it to the gateway")
    arguments = parser.parse_args()
    report(loads[arguments.load](arguments))


if __name__ == "__main__":
    main()
