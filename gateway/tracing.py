"""W3C traces: whose trace a request belongs to, and what took how long in it.

The caller's ``traceparent`` is taken over as it is. Spans of our own are made only once an exporter is installed, and
only in traces that are sampled; otherwise ``span`` and ``record`` cost one look at a variable.
"""

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Final, Literal

Kind = Literal["server", "client", "internal"]
Value = str | int | float

_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = 1
_RANDOM: Final = 2
_RANDOM_DIGITS: Final = 14
"""At its end these digits of a trace id are random if the flag says so (W3C Trace Context Level 2, 3.2.2.5)."""
_MOST_HEADER_BYTES: Final = 256
HEEDED_PER_SECOND: Final = 50
"""Requests that are recorded because their callers ask for it; more would push others' spans out of the exporter."""
HEEDED_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Trace:
    """A place in a trace: 32 and 16 hexadecimal digits, and whether it is recorded.

    ``asked``: whoever sent the request wants it recorded, and nobody knows yet who that is; see ``heed``.
    """

    trace_id: str
    span_id: str
    sampled: bool
    asked: bool = False

    @property
    def header(self) -> str:
        """As the header ``traceparent``, with this place as the parent."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took from ``start`` to ``end``, Unix nanoseconds; ``parent_id`` is empty at a trace's root."""

    name: str
    kind: Kind
    trace: Trace
    parent_id: str
    start: int
    end: int
    attributes: Mapping[str, Value]
    failed: bool


TRACE: Final[ContextVar[Trace | None]] = ContextVar("trace", default=None)
Export = Callable[[Span], None]


class _Exporter:
    """Where spans go, None for nowhere; and the share of requests without a ``traceparent`` that are recorded."""

    export: Export | None = None
    share = 1.0
    left, filled_at = float(HEEDED_AT_ONCE), 0.0

    @classmethod
    def spend(cls) -> bool:
        """Whether one more request may be recorded because its caller asks for it."""
        now = time.monotonic()
        cls.left = min(HEEDED_AT_ONCE, cls.left + (now - cls.filled_at) * HEEDED_PER_SECOND)
        cls.filled_at = now
        if cls.left < 1:
            return False
        cls.left -= 1
        return True


def install(export: Export | None, share: float = 1.0) -> None:
    """From now on hand every finished span to *export*, which must not block; None stops it."""
    _Exporter.export, _Exporter.share = export, share
    _Exporter.left, _Exporter.filled_at = float(HEEDED_AT_ONCE), time.monotonic()


def trace_of(header: bytes) -> Trace | None:
    """What a ``traceparent`` says; None for one that is not as W3C Trace Context (section 3.2) wants it.

    With a random id that nobody has sampled so far it is the id that decides, in every process alike: our own clients
    give all calls about one file one such trace, and cannot know the share.
    """
    found = _TRACEPARENT.fullmatch(header) if len(header) <= _MOST_HEADER_BYTES else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    if not (trace_id.strip(b"0") and span_id.strip(b"0")):
        return None
    sampled = bool(int(flags, 16) & _SAMPLED)
    if int(flags, 16) & _RANDOM and not sampled and _Exporter.export is not None:
        sampled = int(trace_id[-_RANDOM_DIGITS:], 16) < _Exporter.share * 16**_RANDOM_DIGITS
    return Trace(trace_id.decode(), span_id.decode(), sampled)


def begin(header: bytes | None) -> Trace | None:
    """The trace of a request that came with *header*: the caller's, or a new one if spans go anywhere, or none.

    Where spans go somewhere, the caller's wish to have it recorded waits for ``heed``: it is a stranger's so far.
    """
    trace = trace_of(header) if header is not None else None
    if trace is not None and trace.sampled and _Exporter.export is not None:
        return replace(trace, sampled=False, asked=True)
    if trace is None and _Exporter.export is not None:
        sampled = secrets.randbelow(1_000_000) < _Exporter.share * 1_000_000
        trace = Trace(secrets.token_hex(16), "", sampled)
    return trace


def heed() -> None:
    """Whoever sent the request of the moment is known: record it from now on, if they asked and it is not too much."""
    trace = TRACE.get()
    if trace is not None and trace.asked and not trace.sampled and _Exporter.spend():
        TRACE.set(replace(trace, sampled=True))


@contextmanager
def request_span(name: str, attributes: Mapping[str, Value]) -> Iterator[None]:
    """The request that is served in the block, if it is recorded by its end; *attributes* are read then."""
    export, parent = _Exporter.export, TRACE.get()
    if export is None or parent is None or not (parent.sampled or parent.asked):
        yield
        return
    here = replace(parent, span_id=secrets.token_hex(8))
    token = TRACE.set(here)
    start, failed = time.time_ns(), True
    try:
        yield
        failed = False
    finally:
        now = TRACE.get()
        TRACE.reset(token)
        if now is not None and now.sampled:
            export(Span(name, "server", now, parent.span_id, start, time.time_ns(), attributes, failed))


def new_traceparent() -> str:
    """A header for the calls of a client about one thing, which read as one trace; whoever is called may record it."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-{_RANDOM:02x}"


def traceparent() -> str | None:
    """What a call of ours to somebody else says of the moment; None outside of every trace."""
    trace = TRACE.get()
    return trace.header if trace is not None and trace.span_id else None


@contextmanager
def span(name: str, kind: Kind = "internal", attributes: Mapping[str, Value] | None = None) -> Iterator[None]:
    """What happens in the block, below the span of the moment; *attributes* are read at its end."""
    export, parent = _Exporter.export, TRACE.get()
    if export is None or parent is None or not parent.sampled:
        yield
        return
    here = Trace(parent.trace_id, secrets.token_hex(8), sampled=True)
    token = TRACE.set(here)
    start, failed = time.time_ns(), True
    try:
        yield
        failed = False
    finally:
        TRACE.reset(token)
        export(Span(name, kind, here, parent.span_id, start, time.time_ns(), attributes or {}, failed))


def record(name: str, seconds: float, attributes: Mapping[str, Value], *, failed: bool) -> None:
    """A call of ours to somebody else that has just ended and took *seconds*, below the span of the moment."""
    export, parent = _Exporter.export, TRACE.get()
    if export is None or parent is None or not parent.sampled:
        return
    end = time.time_ns()
    here = Trace(parent.trace_id, secrets.token_hex(8), sampled=True)
    export(Span(name, "client", here, parent.span_id, end - int(seconds * 1e9), end, attributes, failed))
