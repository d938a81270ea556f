"""A client that does what the README asks of one: what is retryable is repeated, at any gateway that answers."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import httpx
from fastcrc import crc64 as fastcrc64

from tests.system.auditor import NEW_UPLOAD_AFTER, Auditor, Watched
from tests.system.stack import Caller, parts_of

PAUSE_MOST_SECONDS: Final = 1.0
TICKET: Final = "Upload-Ticket"


class Refused(Exception):
    """An answer that no repetition changes."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__(document)
        self.document = document
        self.code = str(document.get("code"))


class SteadyClient:
    """One person with one token at several gateways.

    Args:
        callers: gives the person at each gateway there is now.
    """

    def __init__(
        self, callers: Callable[[], Sequence[Caller]], auditor: Auditor, seed: int = 0, patience_seconds: float = 30.0
    ) -> None:
        self._callers = callers
        self._auditor = auditor
        self._random = random.Random(seed)
        self._patience_seconds = patience_seconds
        self.sent_bytes = 0
        self.repeated_count = 0

    def ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """The JSON of the answer that counts. Raises Refused; fails when patience ends."""
        deadline = time.monotonic() + self._patience_seconds
        last: object = None
        while time.monotonic() < deadline:
            caller = self._random.choice(self._callers())
            began = time.monotonic()
            try:
                answer = caller.call(method, path, **request)
                document: dict[str, Any] = answer.json()
            except (httpx.TransportError, ValueError) as error:
                last = error
                self._rest(0.1)
                continue
            finally:
                self.sent_bytes += len(request.get("content", b""))
            self._auditor.answered(f"{method} {path}", time.monotonic() - began, answer.status_code, document)
            if answer.is_success:
                return document | ({"ticket": answer.headers[TICKET]} if TICKET in answer.headers else {})
            if not document.get("retryable"):
                raise Refused(document)
            last = document
            self._rest(float(answer.headers.get("retry-after", 0.1)))
        raise AssertionError(f"{method} {path} never succeeded; at last: {last}")

    def _rest(self, seconds: float) -> None:
        self.repeated_count += 1
        time.sleep(min(seconds, PAUSE_MOST_SECONDS) * self._random.uniform(0.5, 1))

    def create(self, key: str, data: bytes, **options: Any) -> Watched:
        """A task for *data*, watched by the auditor."""
        told = {"key": key, **options}
        headers = {"Idempotency-Key": f"{self._random.getrandbits(64):x}-{fastcrc64.xz(key.encode()):x}"}
        task = self.ask("POST", "/v1/tasks", json=told, headers=headers)
        return self._auditor.watch(self._callers()[0], data, task)

    def put_part(self, file: Watched, number: int, part: bytes) -> None:
        """One part, with its CRC-64, until it is acknowledged."""
        headers = {**_ticket(file), "x-cos-hash-crc64ecma": str(fastcrc64.xz(part))}
        receipt = self.ask("PUT", f"/v1/tasks/{file.task['id']}/parts/{number}", content=part, headers=headers)
        file.ticket = receipt.get("ticket", file.ticket)
        self._auditor.acknowledged(file, receipt)

    def move(self, file: Watched, verb: str, **request: Any) -> dict[str, Any]:
        """``pause``, ``restart``, ``cancel`` or ``complete``, until it is answered."""
        task = self.ask("POST", f"/v1/tasks/{file.task['id']}/{verb}", headers=_ticket(file), **request)
        self._auditor.saw(file, task)
        return task

    def look(self, file: Watched) -> dict[str, Any]:
        """The task as it is."""
        task = self.ask("GET", f"/v1/tasks/{file.task['id']}", headers=_ticket(file))
        self._auditor.saw(file, task)
        return task

    def send_parts(self, file: Watched, numbers: Sequence[int] | None = None) -> dict[str, Any]:
        """Every part (or *numbers*), in any order, and the completion; what is missing then is sent again."""
        parts = parts_of(file.data, file.task["part_size"])
        wanted = list(numbers or range(1, len(parts) + 1))
        deadline = time.monotonic() + self._patience_seconds
        while time.monotonic() < deadline:
            self._random.shuffle(wanted)
            try:
                for number in wanted:
                    self.put_part(file, number, parts[number - 1])
                task = self.move(file, "complete")
            except Refused as refused:
                wanted = self._go_on(file, refused, len(parts))
                continue
            while task["state"] == "completing":
                time.sleep(0.1)
                task = self.look(file)
            if task["state"] == "success":
                return task
            wanted = list(range(1, len(parts) + 1))
        raise AssertionError(f"{file.key} was never completed")

    def send_content(self, file: Watched) -> dict[str, Any]:
        """The file as one body, from wherever the gateway says that it stands."""
        size, offset = len(file.data), 0
        path = f"/v1/tasks/{file.task['id']}/content"
        deadline = time.monotonic() + self._patience_seconds
        while time.monotonic() < deadline:
            span = {"Content-Range": f"bytes {offset}-{size - 1}/{size}"} if offset else {}
            try:
                task = self._content_once(file, path, file.data[offset:], span)
            except Refused as refused:
                if refused.code == "offset_mismatch":
                    offset = int(refused.document["next_offset"])
                    continue
                self._go_on(file, refused, 0)
                task = self.look(file)
            if task["state"] == "success":
                return task
            offset = task["next_offset"]
            if offset == size:
                task = self.move(file, "complete")
                if task["state"] == "success":
                    return task
        raise AssertionError(f"{file.key} was never completed")

    def _content_once(self, file: Watched, path: str, data: bytes, span: dict[str, str]) -> dict[str, Any]:
        """One attempt; after a broken connection the task tells how far it came."""
        caller = self._random.choice(self._callers())
        self.sent_bytes += len(data)
        began = time.monotonic()
        try:
            digest = {"x-cos-hash-crc64ecma": str(fastcrc64.xz(data))}
            answer = caller.call("PUT", path, content=data, headers={**_ticket(file), **span, **digest})
            document: dict[str, Any] = answer.json()
        except (httpx.TransportError, ValueError):
            self._rest(0.1)
            return self.look(file)
        self._auditor.answered(f"PUT {path}", time.monotonic() - began, answer.status_code, document)
        if answer.is_success:
            self._auditor.saw(file, document)
            return document
        if document.get("retryable") and document.get("code") != "offset_mismatch":
            self._rest(float(answer.headers.get("retry-after", 0.1)))
            return self.look(file)
        raise Refused(document)

    def _go_on(self, file: Watched, refused: Refused, count: int) -> list[int]:
        """After a refusal: restart what can be, and the numbers to send now."""
        if refused.code == "parts_missing" and refused.document.get("missing"):
            return [n for first, last in refused.document["missing"] for n in range(first, last + 1)]
        if refused.code == "task_succeeded":
            if refused.document.get("differs"):
                raise refused
            return []
        task = self.look(file)
        if task["state"] in ("paused", "error"):
            if (task["error"] or {}).get("code") in NEW_UPLOAD_AFTER:
                file.receipts.clear()
            self.move(file, "restart")
        elif task["state"] in ("canceled",):
            raise refused
        return list(range(1, count + 1))


def _ticket(file: Watched) -> dict[str, str]:
    return {TICKET: file.ticket} if file.ticket else {}
