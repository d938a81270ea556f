"""Whether the invariants hold after a fault, judged from outside: COS itself, its journal, /proc, metrics, logs.

I1 acknowledged parts are at COS, I2 what succeeded is the source, I3 one object and one answer, I4 legal moves and
rising versions, I5 bounded processes, I6 nothing runs on, I7 no upload without a living task, I8 no secret in any log,
I9 every answer in time, I11 no more progress than COS holds, I12 every refusal is a problem document. Nobody else
suffers, I10, because every file of everybody is watched.
"""

import json
import os
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import jwt
from fastcrc import crc64 as fastcrc64

from tests.fakes.cos_caller import CallerAnswer, CosCaller, caller_at
from tests.system.processes import Gateway, LocalCos, wait_until
from tests.system.stack import MIB, SEAL_SECRET, SECRET, Caller, Stack, good, token

ANSWER_SECONDS: Final = 65.0
"""The longest that any call may take: a completion is waited for 50 s."""
QUIET_SECONDS: Final = 10.0
AT_REST: Final = ("gateway_replay_budget_bytes", "gateway_bodies_in_flight", "gateway_calls_in_flight")
ABORT_SECONDS: Final = 20.0
COS_ATTEMPTS: Final = 100
COS_PAUSE_SECONDS: Final = 0.05
FROZEN_LOGGER: Final = "gateway.loop_watch"
"""Tells, as it should, of a process that was stopped for a while."""
NEW_UPLOAD_AFTER: Final = ("upload_lost", "integrity_failed", "digest_mismatch", "object_conflict")
"""Errors of a task after which a restart begins with nothing."""
MEMORY_MOST_BYTES: Final = 192 * MIB
"""90 MB, and 2.3 MB for each of 40 parts in flight; measured, with 8 clients: 100 MiB."""
FILES_OPEN_MOST: Final = 160
"""64, and as many as 40 clients and the calls to COS and Redis need; measured, with 8 clients: 32."""
FINAL: Final = ("success", "canceled")

# What may follow a state at all, however many moves were not seen; a task that Redis lost may also begin anew.
_NEVER_AGAIN: Final[Mapping[str, frozenset[str]]] = {
    "success": frozenset({"success"}),
    "canceled": frozenset({"canceled"}),
}


@dataclass
class Watched:
    """A file on its way: what its owner sends, and what was acknowledged of it."""

    caller: Caller
    key: str
    data: bytes
    """Empty: the auditor was not told."""
    task: dict[str, Any]
    ticket: str | None = None
    receipts: dict[int, tuple[int, str]] = field(default_factory=dict)
    redis_lost: bool = False
    result: dict[str, Any] | None = None


class Auditor:
    """Keeps what callers were told, and holds it against what is. Thread-safe where callers use it.

    Args:
        memory_most_bytes: of a gateway, at its worst moment.
        alarms: loggers that tell operators of the faults at hand.
    """

    def __init__(
        self,
        stack: Stack,
        *,
        memory_most_bytes: float = MEMORY_MOST_BYTES,
        alarms: Collection[str] = (FROZEN_LOGGER,),
    ) -> None:
        self._stack = stack
        self._memory_most_bytes = memory_most_bytes
        self._alarms = alarms
        self._said_before = {log: log.stat().st_size for log in _logs_of(stack)}
        self._lock = threading.Lock()
        self.files: dict[str, Watched] = {}
        self.broken: list[str] = []
        self._outliving: list[tuple[Watched, str]] = []
        self.faults: list[str] = []
        self._cos: CosCaller = caller_at(
            stack.cos.port, LocalCos.BUCKET, LocalCos.REGION, LocalCos.SECRET_ID, LocalCos.SECRET_KEY, None
        )

    def watch(self, caller: Caller, data: bytes, task: dict[str, Any]) -> Watched:
        """From now on *task*, which is to become *data*, is looked after."""
        with self._lock:
            watched = self.files[task["id"]] = Watched(caller, task["key"], data, task, task["ticket"])
        return watched

    def settle(self, file: Watched, task: dict[str, Any]) -> None:
        """*file* has ended as *task*: judge it now, and then forget it and its object."""
        self._judge(file, task)
        self.forget(file)
        if task["state"] == "success":
            self._ask_cos("DELETE", file.key, {})

    def forget(self, file: Watched) -> None:
        """Nothing of *file* is left to be looked after."""
        with self._lock:
            del self.files[file.task["id"]]

    def redis_lost_everything(self) -> None:
        """From now on what was final may be unknown."""
        with self._lock:
            for file in [*self.files.values(), *(file for file, _ in self._outliving)]:
                file.redis_lost = True

    def acknowledged(self, file: Watched, part: Mapping[str, Any]) -> None:
        """A caller holds a receipt."""
        file.receipts[int(part["number"])] = (int(part["size"]), str(part["etag"]))

    def saw(self, file: Watched, task: dict[str, Any], before: dict[str, Any] | None = None) -> None:
        """A caller was shown *task*; what had been shown *before* they asked, if others may ask meanwhile."""
        before = file.task if before is None else before
        allowed = _NEVER_AGAIN.get(before["state"])
        if allowed is not None and task["state"] not in allowed and not file.redis_lost:
            self._break("I4", f"{task['id']} went from {before['state']} to {task['state']}")
        if task["version"] < before["version"] and not file.redis_lost:
            self._break("I4", f"{task['id']} went from version {before['version']} back to {task['version']}")
        if task["version"] == before["version"] and _moving(task) != _moving(before) and not file.redis_lost:
            self._break("I4", f"{task['id']} changed and kept its version: {_moving(before)}, {_moving(task)}")
        if (before["error"] or {}).get("code") in NEW_UPLOAD_AFTER and task["state"] != "error":
            file.receipts.clear()
        if task["state"] == "success":
            if file.result not in (None, task["result"]) and not file.redis_lost:
                self._break("I3", f"{task['id']} had two results")
            file.result = task["result"]
        if task["version"] >= file.task["version"]:
            file.task, file.ticket = task, task["ticket"] or file.ticket

    def answered(self, what: str, seconds: float, status: int, document: Mapping[str, Any]) -> None:
        """A caller got an answer."""
        if seconds > ANSWER_SECONDS:
            self._break("I9", f"{what} took {seconds:.1f} s")
        if status >= 400 and not ({"code", "retryable", "request_id"} <= document.keys()):
            self._break("I12", f"{what} was refused without a problem document: {status} {document}")
        if status == 500:
            self._break("I12", f"{what} met an unexpected error: {document}")

    def check(self, *, everything: bool = True) -> None:
        """Hold all that was told against COS, and the processes against their bounds; fail on any difference."""
        for file in list(self.files.values()):
            self._check_file(file)
        for file, upload_id in self._outliving:
            self._await_abort(file, upload_id)
        if everything:
            for gateway in self._stack.gateways:
                if gateway.program.exit_code is None:
                    self._check_process(gateway)
            self._check_logs()
            self._check_journal()
        assert not self.broken, "\n".join(self.broken)

    def held(self, key: str, upload_id: str) -> dict[int, tuple[int, str]] | None:
        """What COS's own List Parts says; None: it does not know the upload."""
        parts: dict[int, tuple[int, str]] = {}
        marker = ""
        while True:
            query = {"uploadId": upload_id, **({"part-number-marker": marker} if marker else {})}
            answer = self._ask_cos("GET", key, query)
            if answer.status == 404:
                return None
            for row in answer.xml.iterfind(".//{*}Part"):
                number, size, etag = (row.findtext(f"{{*}}{name}") or "" for name in ("PartNumber", "Size", "ETag"))
                parts[int(number)] = (int(size), f'"{etag.strip(chr(34))}"')
            if answer.text("IsTruncated") != "true":
                return parts
            marker = answer.text("NextPartNumberMarker") or ""

    def _ask_cos(self, method: str, key: str, query: Mapping[str, str]) -> CallerAnswer:
        """COS's answer, also when a fault meets this call that was not meant for it."""
        for _ in range(COS_ATTEMPTS):
            with suppress(OSError, HTTPException):
                answer = self._cos.call(method, key, query)
                if answer.status in (200, 204, 404):
                    return answer
            time.sleep(COS_PAUSE_SECONDS)
        raise AssertionError("the local COS does not answer its auditor")

    def open_uploads(self, key: str) -> set[str]:
        """What COS's own List Multipart Uploads says of *key*."""
        answer = self._ask_cos("GET", "", {"uploads": "", "prefix": key})
        rows = answer.xml.iterfind(".//{*}Upload")
        return {row.findtext("{*}UploadId") or "" for row in rows if row.findtext("{*}Key") == key}

    def _check_file(self, file: Watched) -> None:
        gateway = self._living_gateway_of(file)
        if gateway is None:  # it had a Redis of its own
            self._judge(file, file.task)
            return
        headers = {"Upload-Ticket": file.ticket} if file.ticket else {}
        told = jwt.decode(file.caller.bearer, options={"verify_signature": False})
        with closing(Caller(self._stack, gateway, token(told["sub"]))) as owner:
            answer = owner.call("GET", f"/v1/tasks/{file.task['id']}", headers=headers)
        if answer.status_code == 404 and file.redis_lost and not (file.receipts or file.task["upload_id"]):
            return  # nothing of it was at COS
        task = good(answer)
        self.saw(file, task)
        self._judge(file, task)

    def _living_gateway_of(self, file: Watched) -> Gateway | None:
        """The one that its caller asked, else another before the same Redis."""
        used = file.caller.gateway
        for gateway in (used, *self._stack.gateways):
            same = gateway.env["GATEWAY_REDIS_URL"] == used.env["GATEWAY_REDIS_URL"]
            if same and gateway.program.exit_code is None:
                return gateway
        return None

    def _judge(self, file: Watched, task: Mapping[str, Any]) -> None:
        if task["state"] == "success":
            self._check_object(file, task)
        upload_id = task["upload_id"]
        held = self.held(file.key, upload_id) if upload_id else None
        if task["state"] in FINAL:
            if held is not None:
                self._outliving.append((file, upload_id))
            return
        if (task["error"] or {}).get("code") in NEW_UPLOAD_AFTER:
            return
        if upload_id:
            lost = {number: told for number, told in file.receipts.items() if (held or {}).get(number) != told}
            if lost:
                self._break("I1", f"{task['id']}: acknowledged and not at COS: {lost}, which has {held}")
        stored = sum(size for size, _ in (held or {}).values())
        if task["loaded"] > stored + MIB:
            self._break("I11", f"{task['id']} shows {task['loaded']} bytes, COS has {stored}")

    def _await_abort(self, file: Watched, upload_id: str) -> None:
        """A failed abort is finished by whoever finds its intent; if Redis lost that, the sweeper finds the upload."""
        deadline = time.monotonic() + ABORT_SECONDS
        while not file.redis_lost and self.held(file.key, upload_id) is not None:
            if time.monotonic() > deadline:
                self._break("I7", f"{file.task['id']} is {file.task['state']}, and COS still has its upload")
                return
            time.sleep(COS_PAUSE_SECONDS)

    def _check_object(self, file: Watched, task: Mapping[str, Any]) -> None:
        stored = self._stack.cos.read(file.key)
        if file.data not in (b"", stored):
            self._break("I2", f"{task['id']} is no success: the object is another")
        told = (task["result"]["size"], int(task["result"]["crc64"]))
        if told != (len(stored), fastcrc64.xz(stored)):
            self._break("I2", f"{task['id']} tells a result that is not the file's: {task['result']}")

    def _check_process(self, gateway: Gateway) -> None:
        if gateway.program.peak_bytes > self._memory_most_bytes:
            self._break("I5", f"{gateway.url} held {gateway.program.peak_bytes} bytes")
        files = len(os.listdir(f"/proc/{gateway.program.pid}/fd"))
        if files > FILES_OPEN_MOST:
            self._break("I5", f"{gateway.url} has {files} files open")

        def at_rest() -> bool:
            metrics = gateway.metrics()
            return all(metrics.get(name) == 0 for name in AT_REST)

        wait_until(at_rest, "I6: rest", QUIET_SECONDS)

    def _check_journal(self) -> None:
        wait_until(lambda: all(e["ended"] for e in self._stack.cos.journal()), "I6: no call to COS", QUIET_SECONDS)
        done: dict[str, int] = {}
        for entry in self._stack.cos.journal("CompleteMultipartUpload", status=200, code=""):
            if entry["fault"] == "endless_spaces":  # never done
                continue
            done[entry["upload_id"]] = done.get(entry["upload_id"], 0) + 1
        for upload_id, count in done.items():
            if count > 1:
                self._break("I3", f"upload {upload_id} was completed {count} times")

    def _check_logs(self) -> None:
        secrets = [SECRET, SEAL_SECRET, LocalCos.SECRET_KEY, *(caller.bearer for caller in self._stack.callers)]
        logs = {log: self._said_by(log) for log in _logs_of(self._stack)}
        for log, said in logs.items():
            if any(secret in said for secret in secrets):
                self._break("I8", f"{log.name} holds a secret")
        for gateway in self._stack.gateways:
            whole, _, _ = logs[gateway.program.log].rpartition("\n")
            for line in map(json.loads, whole.splitlines()):
                if line["level"] in ("error", "critical") and line["logger"] not in self._alarms:
                    self._break("I12", f"{gateway.url} logged {line}")

    def _said_by(self, log: Path) -> str:
        """What was written since the auditor came."""
        with log.open(errors="replace") as file:
            file.seek(self._said_before.get(log, 0))
            return file.read()

    def _break(self, invariant: str, sentence: str) -> None:
        with self._lock:
            self.broken.append(f"{invariant}: {sentence}")


def _moving(task: Mapping[str, Any]) -> tuple[object, ...]:
    """What of a task changes with its version only."""
    return task["state"], task["loaded"], task["stored_parts"]


def _logs_of(stack: Stack) -> list[Path]:
    return sorted(stack.folder.glob("*.log"))
