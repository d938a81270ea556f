"""Everything at once, from outside: Redis, a COS that can fail, gateways, and callers with tokens."""

import fcntl
import hashlib
import itertools
import random
import socket
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import httpx
import jwt

from tests.system.canary import leaks_in, secret
from tests.system.processes import HTTP, Gateway, LocalCos, Redis, cli

MIB: Final = 1 << 20
SECRET: Final = secret("canary-token-secret-0123456789-abcdef")
SEAL_SECRET: Final = secret("canary-seal-secret-0123456789-abcdef")
PROBLEM_TYPE: Final = "application/problem+json"
CALLS: Final = [
    ("GET", "/v1/tasks"),
    ("POST", "/v1/tasks"),
    ("GET", "/v1/tasks/{id}"),
    ("GET", "/v1/tasks/{id}/parts"),
    ("PUT", "/v1/tasks/{id}/parts/2"),
    ("PUT", "/v1/tasks/{id}/content"),
    ("POST", "/v1/tasks/{id}/complete"),
    ("POST", "/v1/tasks/{id}/pause"),
    ("POST", "/v1/tasks/{id}/restart"),
    ("POST", "/v1/tasks/{id}/cancel"),
    ("POST", "/v1/files?key=stolen"),
]
"""Calls that need a token; ``{id}`` stands for a task."""


Hear = Callable[[httpx.Response], None]
"""Is told the answer."""
Listen = Callable[["Caller", str, str], Hear]
"""Is told who asks what, by method and path, before they do."""


@dataclass
class Stack:
    """What one module of tests shares. ``listen`` is told of every request of its callers."""

    folder: Path
    redis: Redis
    cos: LocalCos
    gateways: list[Gateway] = field(default_factory=list)
    callers: "list[Caller]" = field(default_factory=list)
    listen: Listen | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def start_gateway(self, *, crash_at: str = "", launcher: Sequence[str] = (), **settings: str) -> Gateway:
        """One more gateway before the same Redis and COS; *settings* are ``GATEWAY_<NAME>``.

        With *crash_at* it kills itself at that point; see ``tests/fakes/crashing_gateway.py``. *launcher*: a command
        line that ends by running the one that follows it.
        """
        env = {
            "GATEWAY_REDIS_URL": self.redis.url,
            "GATEWAY_COS_ENDPOINT": self.cos.url,
            "GATEWAY_COS_SECRET_ID": LocalCos.SECRET_ID,
            "GATEWAY_COS_SECRET_KEY": LocalCos.SECRET_KEY,
            "GATEWAY_BUCKETS": f"files={LocalCos.BUCKET}@{LocalCos.REGION}",
            "GATEWAY_BUCKET_OPTIONS": "files=*",
            "GATEWAY_TOKEN_SECRET": SECRET,
            "GATEWAY_SEAL_KEYS": f"first:{SEAL_SECRET}",
            "GATEWAY_DRAIN_SECONDS": "5",
            "GATEWAY_DRAIN_NOTICE_SECONDS": "0",
            "GATEWAY_LOG_LEVEL": "debug",
            "GATEWAY_BAD_TOKENS_PER_MINUTE_COUNT": "0",  # every test comes from one address
            "GATEWAY_UNKNOWN_IDS_PER_MINUTE_COUNT": "0",  # some look until a task is there again
            **{f"GATEWAY_{name.upper()}": value for name, value in settings.items()},
        }
        gateway = Gateway(self.folder, f"gateway-{next(self._numbers)}", env, crash_at, launcher)
        self.gateways.append(gateway)
        return gateway

    @property
    def gateway(self) -> Gateway:
        """The first."""
        return self.gateways[0]

    def caller(self, subject: str, gateway: Gateway | None = None, **policy: Any) -> "Caller":
        """Somebody with a token of their own."""
        return self.caller_with(token(subject, **policy), gateway)

    def caller_with(self, bearer: str, gateway: Gateway | None = None) -> "Caller":
        """Whoever has the token *bearer*."""
        self.callers.append(Caller(self, gateway or self.gateway, bearer))
        return self.callers[-1]

    def close(self) -> None:
        told = [gateway.metrics_text() + gateway.program.arguments for gateway in self.gateways]
        for caller in self.callers:
            caller.close()
        for gateway in self.gateways:
            gateway.program.ask_to_end()
        for gateway in self.gateways:
            gateway.close()
        told += [gateway.program.log.read_bytes() for gateway in self.gateways]
        self.cos.close()
        self.redis.close()
        assert [leak for text in told for leak in leaks_in(text)] == [], "a gateway told a secret"


@contextmanager
def running_stack(folder: Path, *, gateways: int = 1, **settings: str) -> Iterator[Stack]:
    """Start everything, its files in *folder*; end it with the block."""
    redis = Redis(folder)
    try:
        stack = Stack(folder, redis, LocalCos(folder))
    except BaseException:
        redis.close()
        raise
    try:
        for _ in range(gateways):
            stack.start_gateway(**settings)
        yield stack
    finally:
        stack.close()


def token(subject: str, *, seconds: int = 600, **claims: Any) -> str:
    """A token as `python -m gateway token` makes them."""
    now = int(time.time())
    told = {"sub": subject, "aud": "upload-gateway", "iat": now, "exp": now + seconds, **claims}
    return jwt.encode(told, SECRET, algorithm="HS256")


def token_of_the_cli(gateway: Gateway, subject: str) -> str:
    """One that `python -m gateway token` did make."""
    return cli(gateway.env, "token", "--subject", subject)


def body(seed: int | str, size: int) -> bytes:
    """Random bytes, the same for the same *seed*."""
    return random.Random(seed).randbytes(size)


def parts_of(data: bytes, part_size: int) -> list[bytes]:
    """*data* as parts 1, 2, ...; at least one."""
    return [data[at : at + part_size] for at in range(0, max(1, len(data)), part_size)]


class Caller:
    """A front end, or a back end: sends requests to one gateway with one token."""

    def __init__(self, stack: Stack, gateway: Gateway, bearer: str) -> None:
        self._stack = stack
        self.gateway = gateway
        self.bearer = bearer
        self._client = httpx.Client(
            base_url=gateway.url, headers={"Authorization": f"Bearer {bearer}"}, timeout=60, **HTTP
        )

    def at(self, gateway: Gateway) -> "Caller":
        """The same caller at another gateway."""
        return self._stack.caller_with(self.bearer, gateway)

    def close(self) -> None:
        self._client.close()

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any request, its answer as it came; what it refuses tells no secret."""
        hear = self._stack.listen and self._stack.listen(self, method, path)
        answer = self._client.request(method, path, **options)
        assert answer.is_success or leaks_in(answer.content) == []
        if hear:
            hear(answer)
        return answer

    def create(self, key: str, size: int | None = None, **options: Any) -> dict[str, Any]:
        told = {"key": key, **({} if size is None else {"size": size}), **options}
        return good(self.call("POST", "/v1/tasks", json=told), 201)

    def task(self, task_id: str) -> dict[str, Any]:
        return good(self.call("GET", f"/v1/tasks/{task_id}"))

    def put_part(self, task_id: str, number: int, data: bytes, **headers: str) -> httpx.Response:
        return self.call("PUT", f"/v1/tasks/{task_id}/parts/{number}", content=data, headers=headers)

    def put_content(self, task_id: str, data: bytes, **headers: str) -> httpx.Response:
        return self.call("PUT", f"/v1/tasks/{task_id}/content", content=data, headers=headers)

    def control(self, task_id: str, verb: str, **options: Any) -> httpx.Response:
        """``pause``, ``restart``, ``cancel`` or ``complete``."""
        return self.call("POST", f"/v1/tasks/{task_id}/{verb}", **options)

    def post_form(self, key: str | None, data: bytes, filename: str = "a.bin", **fields: str) -> httpx.Response:
        """What a browser's form sends: fields first, the file last."""
        boundary = hashlib.sha256(data[:1000]).hexdigest()[:30]
        named = {**({} if key is None else {"key": key}), **fields}
        lines = [f'--{boundary}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in named.items()]
        file = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'
        raw = ("".join(lines) + file).encode() + data + f"\r\n--{boundary}--\r\n".encode()
        return self.call(
            "POST", "/v1/files", content=raw, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"}
        )

    def head(self, method: str, path: str, *lines: str) -> bytes:
        """A request's head for a raw connection."""
        host = f"127.0.0.1:{self.gateway.port}"
        told = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {self.bearer}", *lines]
        return ("\r\n".join(told) + "\r\n\r\n").encode()

    def connect(self) -> socket.socket:
        """A raw connection."""
        return socket.create_connection(("127.0.0.1", self.gateway.port), timeout=30)


def good(answer: httpx.Response, *statuses: int) -> dict[str, Any]:
    """The JSON of an answer that has to be 200, or one of *statuses*."""
    assert answer.status_code in (statuses or (200,)), f"{answer.status_code} {answer.text}"
    document: dict[str, Any] = answer.json()
    return document


def require_problem(answer: httpx.Response, status: int, codes: str | Sequence[str]) -> dict[str, Any]:
    """The problem document of a refusal, which is of the type, *status* and one of the *codes* expected."""
    document = good(answer, status)
    assert answer.headers["content-type"] == PROBLEM_TYPE
    assert answer.headers["cache-control"] == "no-store"
    assert document["code"] in ([codes] if isinstance(codes, str) else codes), document
    assert document["status"] == status
    assert isinstance(document["retryable"], bool)
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


def read_answer(connection: socket.socket | IO[bytes]) -> httpx.Response:
    """The answer on a raw connection, or the next one in what is read of it; 100 Continue is passed over."""
    file = connection.makefile("rb") if isinstance(connection, socket.socket) else connection
    while True:
        status = int(file.readline().split()[1])
        headers = []
        while (line := file.readline().rstrip()) != b"":
            name, _, value = line.partition(b": ")
            headers.append((name, value))
        if status != 100:
            break
    length = int({name.lower(): value for name, value in headers}.get(b"content-length", b"0"))
    return httpx.Response(status, headers=headers, content=file.read(length))


def unread(connection: socket.socket) -> int:
    """Bytes that the other end's system has not confirmed."""
    return int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)), "little")
