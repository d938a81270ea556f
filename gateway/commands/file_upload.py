"""One file's way to a running gateway: found again by its content, sent in parts at once, completed."""

import asyncio
import contextlib
import mimetypes
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.commands.local_file import LocalFile
from gateway.commands.progress_line import ProgressLine
from gateway.commands.rest_client import Refused, RestClient
from gateway.commands.wording import bytes_in_words
from gateway.tracing import new_traceparent

_ONE_REQUEST_BYTES: Final = 1 << 20
_MOST_ROUNDS: Final = 3
"""Parts that COS lost are sent again, but not for ever."""
_LOOK_AGAIN_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Destination:
    """Where one file goes, and how many of its parts at once. ``bucket`` None is the gateway's first."""

    bucket: str | None
    key: str
    parallel: int

    def options(self) -> dict[str, str]:
        """What the gateway is told of it."""
        kind, _ = mimetypes.guess_type(self.key)
        named = {"key": self.key, "bucket": self.bucket, "content_type": kind or "application/octet-stream"}
        return {name: text for name, text in named.items() if text is not None}


class FileUpload:
    """The upload of *file*; what it does is shown on *line*."""

    def __init__(self, client: RestClient, file: LocalFile, to: Destination, line: ProgressLine) -> None:
        self._client = client
        self._file = file
        self._to = to
        self._line = line
        self._loaded = 0
        self._headers = {"traceparent": new_traceparent()}

    async def run(self) -> Mapping[str, Any]:
        """Send what the gateway lacks; the task in ``success``.

        Raises:
            Refused, Unreachable: the gateway's last word.
            FileChanged: the file was written to meanwhile.
        """
        size = self._file.size
        digests = await self._file.digests(lambda read: self._line.show("reading", read, size))
        if size <= _ONE_REQUEST_BYTES:
            task = await self._send_whole(digests[0])
        else:
            task = await self._begin(digests)
            task = await self._send_and_complete(task, digests)
        return await self._ended(task)

    async def _send_whole(self, digest: bytes) -> dict[str, Any]:
        options = self._to.options()
        headers = {**self._headers, **self._lengths(1, digest), "Content-Type": options.pop("content_type")}
        return await self._client.call(
            "POST", "/v1/files", params=options, headers=headers, body=lambda: self._file.chunks(1, lambda _: None)
        )

    async def _begin(self, digests: list[bytes]) -> dict[str, Any]:
        """The task: a new one, or that of an earlier run, which is let go on if it was paused."""
        size, part_size = self._file.size, self._file.part_size
        fingerprint = {"size": size, "part_size": part_size, "parts_md5": [digest.hex() for digest in digests]}
        told = {**self._to.options(), "size": size, "part_size": part_size, "fingerprint": fingerprint}
        task = await self._client.call("POST", "/v1/tasks", json=told, headers=self._headers)
        if task["ticket"]:
            self._headers["Upload-Ticket"] = task["ticket"]
        if task["state"] in ("paused", "error"):
            task = await self._call(task, "POST", "/restart")
        return task

    async def _send_and_complete(self, task: dict[str, Any], digests: list[bytes]) -> dict[str, Any]:
        for round_ in range(_MOST_ROUNDS):
            try:
                if task["state"] not in ("completing", "success"):
                    await self._send_missing(task, digests, tells=not round_)
                self._file.require_unchanged()
                return await self._call(task, "POST", "/complete")
            except Refused as refusal:
                if refusal.code == "task_succeeded" and not refusal.members.get("differs"):
                    return await self._call(task, "GET", "")  # others sent the rest
                if refusal.code != "parts_missing" or round_ == _MOST_ROUNDS - 1:
                    raise
                task = await self._call(task, "GET", "")
        raise AssertionError("the last round returns or raises")

    async def _send_missing(self, task: Mapping[str, Any], digests: list[bytes], *, tells: bool) -> None:
        stored = [number async for number in self._stored(task)]
        self._loaded = sum(self._file.length_of(number) for number in stored)
        if stored and tells:
            self._line.say(f"goes on at {bytes_in_words(self._loaded)} of {bytes_in_words(self._file.size)}")
        await self._send(task, set(range(1, self._file.part_count + 1)).difference(stored), digests)

    async def _stored(self, task: Mapping[str, Any]) -> AsyncIterator[int]:
        query: dict[str, str] = {}
        while True:
            page = await self._call(task, "GET", "/parts", params=query)
            for part in page["parts"]:
                yield part["number"]
            if page["next_cursor"] is None:
                return
            query["cursor"] = page["next_cursor"]

    async def _send(self, task: Mapping[str, Any], numbers: Iterable[int], digests: list[bytes]) -> None:
        """Send the parts in order, several at once; the first that fails ends the others."""
        left = iter(sorted(numbers))
        with _first_failure():
            async with asyncio.TaskGroup() as group:
                for _ in range(self._to.parallel):
                    group.create_task(self._send_each(task, left, digests))

    async def _send_each(self, task: Mapping[str, Any], numbers: Iterator[int], digests: list[bytes]) -> None:
        for number in numbers:
            await self._send_part(task, number, digests[number - 1])

    async def _send_part(self, task: Mapping[str, Any], number: int, digest: bytes) -> None:
        sent = 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal sent
            self._loaded, sent = self._loaded - sent, 0  # an earlier attempt's bytes do not count
            async for piece in self._file.chunks(number, self._count):
                sent += len(piece)
                yield piece

        await self._call(task, "PUT", f"/parts/{number}", headers=self._lengths(number, digest), body=body)

    def _count(self, length: int) -> None:
        self._loaded += length
        self._line.show("sending", self._loaded, self._file.size)

    def _lengths(self, number: int, digest: bytes) -> dict[str, str]:
        return {"Content-Length": str(self._file.length_of(number)), "Content-MD5": b64encode(digest).decode("ascii")}

    async def _ended(self, task: Mapping[str, Any]) -> Mapping[str, Any]:
        """The task once COS has merged its parts."""
        while task["state"] == "completing":
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            task = await self._call(task, "GET", "")
        if task["state"] != "success":
            error = task["error"] or {"code": f"task_{task['state']}", "title": "The task ended otherwise"}
            raise Refused(409, error["code"], error["title"], error.get("detail") or "")
        return task

    async def _call(self, task: Mapping[str, Any], method: str, rest: str, **request: Any) -> dict[str, Any]:
        headers = {**self._headers, **request.pop("headers", {})}
        return await self._client.call(method, f"/v1/tasks/{task['id']}{rest}", headers=headers, **request)


@contextlib.contextmanager
def _first_failure() -> Iterator[None]:
    try:
        yield
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
