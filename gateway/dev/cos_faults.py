"""How the local COS fails when a test asks it to: rules, matched with calls, and what each does to a call.

A rule never reaches into the handlers: it changes the body on its way in, the clock, or the answer on its way out.
"""

import asyncio
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from starlette.requests import ClientDisconnect

from gateway.dev.cos_answers import DECLARATION, Answer, Header, Refusal, tag, text, utf8
from gateway.dev.cos_calls import Call

_XML: Final = (("Content-Type", "application/xml"),)
_PART_BYTES: Final = 1 << 20
_SPACE_SECONDS: Final = 0.05
_WRONG_ETAG: Final = '"00000000000000000000000000000000"'

Honest = Callable[[Call], Awaitable[Answer]]


class Action(StrEnum):
    """What a fault does. ``seconds``, ``after_bytes`` and so on are the fault's fields."""

    ERROR = "error"
    """Take the whole body, store nothing, answer ``status`` and ``code``."""
    EARLY_ERROR = "early_error"
    """Answer ``status`` and ``code`` before a byte of the body is read."""
    RESET = "reset"
    """Reset the connection once ``after_bytes`` of the body have come; with 0, before any, and nothing is stored."""
    STALL = "stall"
    """Stop reading once ``after_bytes`` have come, for ``seconds`` or until the faults are cleared; then go on."""
    SLOW = "slow"
    """Read at ``bytes_per_second``."""
    FLIP = "flip"
    """Store the byte at ``after_bytes`` flipped: checksums are those of what is stored."""
    IGNORED = "ignored"
    """Do nothing, answer 204: an abort that a part in flight undoes."""
    DELAY = "delay"
    """Do as asked, and answer ``seconds`` later."""
    LOST_ANSWER = "lost_answer"
    """Do as asked, then reset the connection instead of answering."""
    WRONG_ETAG = "wrong_etag"
    NO_ETAG = "no_etag"
    WRONG_CRC = "wrong_crc"
    NO_CRC = "no_crc"
    SKEWED_CLOCK = "skewed_clock"
    """The server's clock is ``seconds`` ahead: in what it verifies, and in Date."""
    EXPIRED_TOKEN = "expired_token"  # noqa: S105 -- a fault's name
    PADDED = "padded"
    """Send the XML declaration, spaces for ``seconds``, then the rest."""
    PADDED_BEFORE = "padded_before"
    """Send spaces for ``seconds``, then the XML with its declaration, which strict parsers refuse."""
    ERROR_IN_200 = "error_in_200"
    """Do nothing, answer 200 with ``code`` in an Error document."""
    TRUNCATED = "truncated"
    """Do as asked, and end the answer's body, well framed, in its middle."""
    ENDLESS_SPACES = "endless_spaces"
    """Do nothing, and send 200, the XML declaration and spaces for ever."""
    ENDLESS_PAGES = "endless_pages"
    """List one part that nobody sent, ``seconds`` later, and say that more follow."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule: which calls it meets, how often, and what it does to them.

    Args:
        operation, bucket, key, part_number: what the call must be; None: any.
        attempts: which attempts at that operation, bucket, key and part it meets, counted from 1; empty: any.
        times: how often it acts; None: until it is cleared.
        seconds: None stands for ever, where a wait is meant.
    """

    action: Action
    operation: str | None = None
    bucket: str | None = None
    key: str | None = None
    part_number: int | None = None
    attempts: tuple[int, ...] = ()
    times: int | None = 1
    status: int = 503
    code: str = "ServiceUnavailable"
    retry_after_seconds: int | None = None
    after_bytes: int = 0
    seconds: float | None = None
    bytes_per_second: int = 65_536

    def meets(self, call: Call, attempt: int) -> bool:
        wanted = (self.operation, self.bucket, self.key, self.part_number)
        came = (call.operation, call.bucket.name, call.key, call.part_number)
        same = all(one is None or one == other for one, other in zip(wanted, came, strict=True))
        return same and (not self.attempts or attempt in self.attempts)

    def refusal(self) -> Refusal:
        headers: list[Header] = []
        if self.retry_after_seconds is not None:
            headers.append(("Retry-After", str(self.retry_after_seconds)))
        return Refusal(self.code, "A fault that a test asked for.", status=self.status, headers=headers)


class FaultBook:
    """The rules in force. Of several that meet a call the oldest acts, alone. Used from the server's event loop."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._attempts: Counter[tuple[str, str, str, int | None]] = Counter()
        self._cleared = asyncio.Event()

    def add(self, fault: Fault) -> None:
        self._faults.append(fault)

    def clear(self) -> None:
        """Forget rules and attempts, and let go of what waits."""
        self._faults.clear()
        self._attempts.clear()
        self._cleared.set()
        self._cleared = asyncio.Event()

    def take(self, call: Call) -> tuple[Fault | None, int]:
        """The rule that acts on *call*, and which attempt the call is."""
        place = (call.operation.value, call.bucket.name, call.key, call.part_number)
        self._attempts[place] += 1
        attempt = self._attempts[place]
        for index, fault in enumerate(self._faults):
            if fault.meets(call, attempt):
                self._count_down(index, fault)
                return fault, attempt
        return None, attempt

    async def act(self, fault: Fault, call: Call, honest: Honest) -> Answer:
        """Answer *call* as *fault* wants.

        Raises:
            Refusal: the answer is an error.
            ClientDisconnect: the connection was reset.
        """
        await self._refuse(fault, call)
        if fault.action is Action.ERROR_IN_200:
            error = tag("Error", text("Code", fault.code), text("Message", "A fault that a test asked for."))
            return Answer(200, _XML, DECLARATION + utf8(error), fault.code)
        if fault.action is Action.IGNORED:
            return Answer(204)
        if fault.action is Action.ENDLESS_SPACES:
            return Answer(200, _XML, _spaces(call, math.inf))
        if fault.action is Action.ENDLESS_PAGES:
            await self._hold(fault.seconds)
            return Answer(200, _XML, DECLARATION + utf8(_one_part_more(call)))
        if fault.action is Action.SKEWED_CLOCK:
            call.signoff.now += fault.seconds or 0
        call.body = self._body(fault, call, call.body)
        answer = await honest(call)
        if fault.action is Action.DELAY:
            await self._hold(fault.seconds)
        return await _changed(fault, call, answer)

    async def _refuse(self, fault: Fault, call: Call) -> None:
        if fault.action is Action.EXPIRED_TOKEN:
            raise Refusal("ExpiredToken", "The provided token has expired.")
        if fault.action is Action.RESET and fault.after_bytes == 0:
            _reset(call)
        if fault.action is Action.ERROR:
            async for _ in call.body:
                pass
        if fault.action in {Action.ERROR, Action.EARLY_ERROR}:
            raise fault.refusal()

    async def _body(self, fault: Fault, call: Call, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """*body* as *fault* lets it in; what is to happen at a byte happens before the chunk that holds it."""
        received = 0
        pending = fault.action in {Action.RESET, Action.STALL, Action.FLIP}
        if pending and fault.action is Action.STALL and fault.after_bytes == 0:
            pending = False
            await self._hold(fault.seconds)
        async for came in body:
            chunk = came
            received += len(chunk)
            reached = received > fault.after_bytes or (fault.action is Action.RESET and received == fault.after_bytes)
            if pending and reached:
                pending = False
                chunk = await self._at_byte(fault, call, chunk, fault.after_bytes - received)
            if fault.action is Action.SLOW:
                await asyncio.sleep(len(chunk) / fault.bytes_per_second)
            yield chunk

    async def _at_byte(self, fault: Fault, call: Call, chunk: bytes, index: int) -> bytes:
        match fault.action:
            case Action.RESET:
                _reset(call)
            case Action.STALL:
                await self._hold(fault.seconds)
            case Action.FLIP:
                flipped = bytearray(chunk)
                flipped[index] ^= 0xFF
                return bytes(flipped)
        return chunk

    async def _hold(self, seconds: float | None) -> None:
        """Wait for *seconds*, or until the faults are cleared."""
        waiting = asyncio.ensure_future(self._cleared.wait())
        await asyncio.wait({waiting}, timeout=seconds)
        waiting.cancel()

    def _count_down(self, index: int, fault: Fault) -> None:
        if fault.times is None:
            return
        if fault.times > 1:
            self._faults[index] = replace(fault, times=fault.times - 1)
        else:
            del self._faults[index]


def _one_part_more(call: Call) -> str:
    """A page of List Parts with one part of 1 MiB, which is not the last."""
    number = int(call.query.get("part-number-marker") or "0") + 1
    facts = (text("PartNumber", number), text("Size", _PART_BYTES), text("ETag", _WRONG_ETAG))
    part = tag("Part", *facts, text("LastModified", "2026-01-01T00:00:00.000Z"))
    return tag("ListPartsResult", text("IsTruncated", "true"), text("NextPartNumberMarker", number), part)


async def _changed(fault: Fault, call: Call, answer: Answer) -> Answer:
    """*answer* as *fault* lets it out."""
    match fault.action:
        case Action.LOST_ANSWER:
            await _whole(answer)
            _reset(call)
        case Action.WRONG_ETAG | Action.NO_ETAG:
            etag = _WRONG_ETAG if fault.action is Action.WRONG_ETAG else None
            shown = text("ETag", etag) if etag else ""
            body = re.sub(rb"<ETag>.*?</ETag>", utf8(shown), await _whole(answer))
            return replace(_with_header(answer, "ETag", etag), body=body)
        case Action.WRONG_CRC | Action.NO_CRC:
            crc = dict(answer.headers).get("x-cos-hash-crc64ecma", "0")
            wrong = str(int(crc) ^ 1) if fault.action is Action.WRONG_CRC else None
            return _with_header(answer, "x-cos-hash-crc64ecma", wrong)
        case Action.PADDED | Action.PADDED_BEFORE:
            return replace(answer, body=_padded(fault, call, answer))
        case Action.TRUNCATED:
            whole = await _whole(answer)
            return replace(answer, body=whole[: len(whole) // 2])
    return answer


async def _padded(fault: Fault, call: Call, answer: Answer) -> AsyncIterator[bytes]:
    declared = fault.action is Action.PADDED
    async for space in _spaces(call, fault.seconds or 0, declared=declared):
        yield space
    whole = await _whole(answer)
    yield whole.removeprefix(DECLARATION) if declared else whole


async def _spaces(call: Call, seconds: float, *, declared: bool = True) -> AsyncIterator[bytes]:
    """Spaces for *seconds*, or until the client has gone; *declared*: after the XML declaration."""
    if declared:
        yield DECLARATION
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end and not call.connection.closed:
        yield b" "
        await asyncio.sleep(_SPACE_SECONDS)


async def _whole(answer: Answer) -> bytes:
    if isinstance(answer.body, bytes):
        return answer.body
    return b"".join([chunk async for chunk in answer.body])


def _with_header(answer: Answer, name: str, value: str | None) -> Answer:
    """*answer* with another *value* for a header that it has; None: without it."""
    headers = ((n, v if n != name else value) for n, v in answer.headers)
    return replace(answer, headers=tuple((n, v) for n, v in headers if v is not None))


def _reset(call: Call) -> None:
    call.connection.cut()
    raise ClientDisconnect
