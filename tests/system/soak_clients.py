"""The clients of the soak: each does one thing after the other, at a pace, and says what it expects of each answer."""

import json
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.fakes.cos_caller import CallerAnswer, CosCaller
from tests.system.cos_door import Door
from tests.system.soak_tally import Tally
from tests.system.stack import MIB, Caller, body, parts_of, token

SMALL_BYTES: Final = 16 << 10
RAW_BYTES: Final = MIB
PARTS_BYTES: Final = 5 * MIB + 1
STREAM_BYTES: Final = 24 * MIB
PREFIX: Final = "soak/"
"""Where every key begins; the gateway's sweeper looks after it."""
BOUNDED_BYTES: Final = 100_000
"""The largest file of the token that is refused larger ones."""
PEOPLE: Final = 10
"""Behind each client: so few that what a gateway remembers of people is full early. Growth after that is a leak."""
STEPS_PER_PERSON: Final = 100
LIFE_SECONDS: Final = 24 * 3600
KEY_SECONDS: Final = 3600
PAUSE_SECONDS: Final = 0.6
"""Mean of a client's rest between two steps."""
RESUME_ATTEMPTS: Final = 50
RESETTING: Final = struct.pack("ii", 1, 0)
"""For SO_LINGER: a close that says RST."""


class Unexpected(Exception):
    """An answer that a client did not reckon with, or an object that is not what was sent."""


class SoakClient:
    """One front end, which becomes another person now and then.

    Args:
        source: random bytes of which every file is a piece.
    """

    def __init__(self, door: Door, source: bytes, tally: Tally, seed: int, number: int) -> None:
        self._door = door
        self._source = source
        self._tally = tally
        self._number = number
        self._chance = random.Random(f"{seed} {number}")
        self._store = door.straight().caller()
        self._serial = 0
        self._tokens: dict[str, str] = {}
        self._keys: dict[str, tuple[CosCaller, float]] = {}

    def run(self, calm: threading.Event, over: threading.Event) -> None:
        """Work until it is *over*: each kind once, the largest first, then without a rest until it is *calm*."""
        caller = self._somebody()
        for kind in sorted(KINDS, key=lambda kind: kind != "stream"):
            self._step(kind, caller)
        while not over.wait(self._chance.expovariate(1 / PAUSE_SECONDS) if calm.is_set() else 0):
            self._serial += 1
            if self._serial % STEPS_PER_PERSON == 0:
                caller.close()
                caller = self._somebody()
            self._step(self._chance.choices([*KINDS], [weight for weight, _ in KINDS.values()])[0], caller)
        caller.close()

    def _somebody(self, **policy: Any) -> Caller:
        """A person, on connections of their own, who has the same token each time."""
        subject = f"soak {self._number} {self._chance.randrange(PEOPLE)} {policy}"
        if subject not in self._tokens:
            self._tokens[subject] = token(subject, seconds=LIFE_SECONDS, **policy)
        return Caller(self._door.stack, self._door.stack.gateway, self._tokens[subject])

    def _key(self, caller: Caller) -> CosCaller:
        """What the person signs with at the COS door: one key for long, as SDKs have it."""
        if caller.bearer not in self._keys:
            asked = {"prefix": PREFIX, "ttl_seconds": KEY_SECONDS}
            issued = self._door.issued(self._ask(caller, "POST", "/v1/keys", json=asked))
            self._keys[caller.bearer] = issued.caller(), time.monotonic() + KEY_SECONDS / 2
        cos, until = self._keys[caller.bearer]
        if time.monotonic() > until:
            del self._keys[caller.bearer]
        return cos

    def _step(self, kind: str, caller: Caller) -> None:
        try:
            KINDS[kind][1](self, caller)
        except (Unexpected, OSError, httpx.TransportError, ValueError, KeyError, TypeError) as error:
            self._tally.failed(f"{kind}: {error!r}")
        self._tally.did(kind)

    # --- asking, and looking at what came of it

    def _file(self, size: int) -> tuple[str, bytes]:
        """A new key, and what is to be found there."""
        self._serial += 1
        at = self._chance.randrange(len(self._source) - size)
        return f"{PREFIX}{self._number}/{self._serial}.bin", self._source[at : at + size]

    def _expect(self, answer: httpx.Response, *expected: str) -> dict[str, Any]:
        """The document of an answer whose status, or status and error code, is among those *expected*."""
        document: dict[str, Any] = answer.json() if answer.content else {}
        code = (
            f"{answer.status_code} {document.get('code', '')}".strip() if answer.is_error else f"{answer.status_code}"
        )
        self._tally.answered(code)
        if code not in expected:
            raise Unexpected(f"{answer.request.method} {answer.request.url.path}: {code} {answer.text[:500]}")
        return document

    def _ask(self, caller: Caller, method: str, path: str, *expected: str, **request: Any) -> dict[str, Any]:
        return self._expect(caller.call(method, path, **request), *(expected or ("200",)))

    def _ask_door(self, cos: CosCaller, method: str, key: str, *expected: str, **request: Any) -> CallerAnswer:
        """The same at the COS door."""
        answer = cos.call(method, key, request.pop("query", None), **request)
        code = f"{answer.status} {answer.code if answer.status >= 400 else ''}".strip()
        self._tally.answered(f"door {code}")
        if code not in (expected or ("200",)):
            raise Unexpected(f"{method} {key} at the COS door: {code} {answer.body[:500]!r}")
        return answer

    def _check(self, key: str, data: bytes) -> None:
        """The object is the file; then it is taken away, for the disk's sake."""
        if self._door.cos.read(key) != data:
            raise Unexpected(f"{key}: the object is another")
        self._tally.stored(len(data))
        self._store.call("DELETE", key)

    def _succeeded(self, task: Mapping[str, Any], key: str, data: bytes) -> None:
        if task["state"] != "success":
            raise Unexpected(f"{key}: {task}")
        self._check(key, data)

    # --- the kinds of steps

    def form(self, caller: Caller) -> None:
        """A small file from a browser's form."""
        key, data = self._file(SMALL_BYTES)
        self._succeeded(self._expect(caller.post_form(key, data), "201"), key, data)

    def raw(self, caller: Caller) -> None:
        """One file as one body."""
        key, data = self._file(RAW_BYTES)
        self._succeeded(self._ask(caller, "POST", f"/v1/files?key={key}", "201", content=data), key, data)

    def _begin(self, caller: Caller, size: int) -> tuple[str, bytes, str]:
        key, data = self._file(size)
        told = {"key": key, "size": size, "part_size": MIB}
        return key, data, f"/v1/tasks/{self._ask(caller, 'POST', '/v1/tasks', '201', json=told)['id']}"

    def parts(self, caller: Caller, *, pausing: bool = False) -> None:
        """A task, its parts in any order, the completion."""
        key, data, task = self._begin(caller, PARTS_BYTES)
        numbered = [*enumerate(parts_of(data, MIB), 1)]
        self._chance.shuffle(numbered)
        for sent, (number, part) in enumerate(numbered):
            if pausing and sent == 2:
                self._ask(caller, "POST", f"{task}/pause")
                self._ask(caller, "PUT", f"{task}/parts/{number}", "409 task_paused", content=part)
                self._ask(caller, "POST", f"{task}/restart")
            self._ask(caller, "PUT", f"{task}/parts/{number}", content=part)
        self._ask(caller, "GET", f"{task}/parts")
        self._succeeded(self._ask(caller, "POST", f"{task}/complete"), key, data)

    def paused(self, caller: Caller) -> None:
        """The same with a pause, a part that comes too early, and a restart."""
        self.parts(caller, pausing=True)

    def stream(self, caller: Caller) -> None:
        """A large task as one body."""
        key, data, task = self._begin(caller, STREAM_BYTES)
        self._succeeded(self._ask(caller, "PUT", f"{task}/content", content=data), key, data)

    def canceled(self, caller: Caller) -> None:
        """A part, and then nobody wants it."""
        _, data, task = self._begin(caller, PARTS_BYTES)
        self._ask(caller, "PUT", f"{task}/parts/1", content=data[:MIB])
        self._ask(caller, "POST", f"{task}/cancel")
        self._ask(caller, "PUT", f"{task}/parts/2", "409 task_canceled", content=data[MIB : 2 * MIB])

    def broken(self, caller: Caller) -> None:
        """A body that breaks off; one client in two goes on where it stands, the other cancels."""
        key, data, task = self._begin(caller, PARTS_BYTES)
        self._send_and_vanish(caller.head("PUT", f"{task}/content", f"Content-Length: {len(data)}"), data, caller)
        if self._chance.random() < 0.5:
            self._ask(caller, "POST", f"{task}/cancel")
            return
        offset = int(self._ask(caller, "GET", task)["next_offset"])
        for _ in range(RESUME_ATTEMPTS):
            span = {"Content-Range": f"bytes {offset}-{len(data) - 1}/{len(data)}"} if offset else {}
            answer = caller.call("PUT", f"{task}/content", content=data[offset:], headers=span)
            document = self._expect(answer, "200", "409 offset_mismatch", "409 body_superseded")
            if answer.is_success:
                self._succeeded(document, key, data)
                return
            offset = int(document["next_offset"])
        raise Unexpected(f"{key}: it never went on")

    def abandoned(self, caller: Caller) -> None:
        """A whole file that breaks off for good; its task expires, and the sweeper finds its upload."""
        key, data = self._file(PARTS_BYTES)
        self._send_and_vanish(caller.head("POST", f"/v1/files?key={key}", f"Content-Length: {len(data)}"), data, caller)

    def _send_and_vanish(self, head: bytes, data: bytes, caller: Caller) -> None:
        with caller.connect() as connection:
            if self._chance.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETTING)
            connection.sendall(head + data[: self._chance.randrange(1, len(data))])

    def refused(self, caller: Caller) -> None:
        """No token, a bad one, another's key, a file too large, a document that is none."""
        key, data = self._file(2 * BOUNDED_BYTES)
        path = f"/v1/files?key={key}"
        bad = {"Authorization": f"Bearer {caller.bearer[:-10]}AAAAAAAAAA"}
        self._ask(caller, "POST", path, "401 token_invalid", content=data, headers=bad)
        self._ask(caller, "GET", "/v1/tasks/0123456789abcdef0123456789", "404 task_not_found")
        self._ask(caller, "POST", "/v1/tasks", "400 bad_json", content=b"{", headers=JSON)
        bounded = self._somebody(max_size=BOUNDED_BYTES)
        try:
            self._ask(bounded, "POST", path, "413 file_too_large", content=data)
            self._expect(bounded.post_form(key, data), "413 file_too_large")
            self._ask(bounded, "POST", "/v1/tasks", "413 file_too_large", json={"key": key, "size": len(data)})
        finally:
            bounded.close()

    def looking(self, caller: Caller) -> None:
        """Lists, and the head of an object."""
        key, data = self._file(SMALL_BYTES)
        self._ask(caller, "POST", f"/v1/files?key={key}", "201", content=data)
        self._ask(caller, "HEAD", f"/v1/objects/{key}")
        self._ask(caller, "GET", "/v1/tasks?limit=100")
        self._ask(caller, "GET", "/v1/tasks?state=success&limit=10")
        self._ask(caller, "GET", f"/v1/uploads?prefix={PREFIX}")
        self._check(key, data)
        self._ask(caller, "HEAD", f"/v1/objects/{key}", "404")

    def watching(self, caller: Caller) -> None:
        """A websocket that sees one upload, and leaves with or without a word."""
        offered = [Subprotocol("gateway.v1"), Subprotocol(f"bearer.{caller.bearer}")]
        address = f"ws://127.0.0.1:{caller.gateway.port}/v1/progress"
        with connect(address, subprotocols=offered, proxy=None) as websocket:
            kinds = [json.loads(websocket.recv(10))["type"]]
            self.raw(caller)
            kinds.append(json.loads(websocket.recv(10))["type"])
            if self._chance.random() < 0.5:
                websocket.socket.shutdown(socket.SHUT_RDWR)
        if kinds != ["snapshot", "task"]:
            raise Unexpected(f"the websocket told {kinds}")

    def sdk(self, caller: Caller) -> None:
        """What Tencent's SDKs send with an issued key: parts, and now and then a call that is refused."""
        key, data = self._file(PARTS_BYTES)
        cos = self._key(caller)
        upload = {"uploadId": self._ask_door(cos, "POST", key, query={"uploads": ""}).text("UploadId") or ""}
        rows = ""
        for number, part in enumerate(parts_of(data, 2 * MIB), 1):
            query = {"partNumber": str(number), **upload}
            etag = self._ask_door(cos, "PUT", key, query=query, body=part).headers["etag"]
            rows += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        self._ask_door(cos, "GET", key, query=upload)
        self._ask_door(cos, "PUT", key, "403 AccessDenied", body=b"x", signed=False)
        whole = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
        self._ask_door(cos, "POST", key, query=upload, body=whole)
        self._check(key, data)


JSON: Final = {"Content-Type": "application/json"}
KINDS: Final[Mapping[str, tuple[float, Callable[[SoakClient, Caller], None]]]] = {
    "form": (40, SoakClient.form),
    "raw": (15, SoakClient.raw),
    "parts": (6, SoakClient.parts),
    "paused": (3, SoakClient.paused),
    "stream": (2, SoakClient.stream),
    "canceled": (3, SoakClient.canceled),
    "broken": (4, SoakClient.broken),
    "abandoned": (2, SoakClient.abandoned),
    "refused": (8, SoakClient.refused),
    "looking": (8, SoakClient.looking),
    "watching": (5, SoakClient.watching),
    "sdk": (4, SoakClient.sdk),
}
"""How often, of a hundred steps, and what."""


def clients_of(door: Door, tally: Tally, seed: int, count: int) -> list[SoakClient]:
    """*count* clients whose files are pieces of the same random bytes."""
    source = body(f"soak {seed}", STREAM_BYTES + 8 * MIB)
    return [SoakClient(door, source, tally, seed, number) for number in range(count)]
