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
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["server", "client", "internal"]
Value = str | int | float

_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = 1
_RANDOM: Final = 2
_RANDOM_DIGITS: Final = 14
"""At its end these digits of a trace id are random if the flag says so (W3C Trace Context Level 2, 3.2.2.5)."""
_MOST_HEADER_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Trace:
    """A place in a trace: 32 and 16 hexadecimal digits, and whether it is recorded."""

    trace_id: str
    span_id: str
    sampled: bool

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


def install(export: Export | None, share: float = 1.0) -> None:
    """From now on hand every finished span to *export*, which must not block; None stops it."""
    _Exporter.export, _Exporter.share = export, share


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
    """The trace of a request that came with *header*: the caller's, or a new one if spans go anywhere, or none."""
    trace = trace_of(header) if header is not None else None
    if trace is None and _Exporter.export is not None:
        sampled = secrets.randbelow(1_000_000) < _Exporter.share * 1_000_000
        trace = Trace(secrets.token_hex(16), "", sampled)
    return trace


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
