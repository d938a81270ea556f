"""Judges a test that does not know of it: all that its callers are told is held against COS at its end."""

import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx

from tests.system.auditor import FROZEN_LOGGER, Auditor
from tests.system.stack import MIB, Caller, Hear, Listen, Stack

ROW_MEMORY_BYTES: Final = 90e6 + 256 * MIB
"""A gateway at rest, and its replay budget."""
ALARMS: Final = (FROZEN_LOGGER, "gateway.cos")
"""COS fails every time, its clock is another, its addresses are strange: operators hear of that as an error."""
_TASK: Final = re.compile(r"/v1/tasks/([^/?]+)")


@contextmanager
def auditing(stack: Stack) -> Iterator[Auditor]:
    """Whoever asks a gateway of *stack* meanwhile is listened to; at the end, once COS works, everything must hold."""
    auditor = Auditor(stack, memory_most_bytes=ROW_MEMORY_BYTES, alarms=ALARMS)
    mark = f"witness:{secrets.token_hex(8)}"
    stack.redis.command("SET", mark, "here", "EX", "900")
    stack.listen = listening(auditor)
    try:
        yield auditor
    finally:
        stack.listen = None
    stack.cos.clear_faults()
    if not stack.redis.text("GET", mark):
        auditor.redis_lost_everything()
    auditor.check()


def listening(auditor: Auditor) -> Listen:
    """Tells *auditor* of every answer, and has it watch every task that is created."""

    def listen(caller: Caller, method: str, path: str) -> Hear:
        began, named = time.monotonic(), _TASK.match(path)
        file = auditor.files.get(named[1]) if named else None
        before = file.task if file else None

        def hear(answer: httpx.Response) -> None:
            document = _document(answer)
            if method != "HEAD":
                auditor.answered(f"{method} {path}", time.monotonic() - began, answer.status_code, document)
            if not answer.is_success:
                return
            if (method, path) == ("POST", "/v1/tasks") and document["id"] not in auditor.files:
                auditor.watch(caller, b"", document)
            elif file is not None and "etag" in document:
                file.ticket = answer.headers.get("upload-ticket", file.ticket)
                auditor.acknowledged(file, document)
            elif file is not None and "state" in document:
                auditor.saw(file, document, before)

        return hear

    return listen


def _document(answer: httpx.Response) -> dict[str, Any]:
    """The JSON object that it holds; empty where it holds none."""
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
