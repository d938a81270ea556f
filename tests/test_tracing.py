import asyncio
from collections.abc import Iterator

import pytest

from gateway import tracing
from gateway.tracing import TRACE, Span, Trace, begin, heed, install, record, request_span, span, trace_of

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE_ID}-{SPAN_ID}-01"


@pytest.fixture
def spans() -> Iterator[list[Span]]:
    """What an exporter gets."""
    got: list[Span] = []
    install(got.append)
    yield got
    install(None)


def test_a_traceparent_is_taken_over_as_it_is() -> None:
    assert trace_of(GOOD.encode()) == Trace(TRACE_ID, SPAN_ID, sampled=True)
    assert trace_of(GOOD[:-2].encode() + b"00") == Trace(TRACE_ID, SPAN_ID, sampled=False)
    assert Trace(TRACE_ID, SPAN_ID, sampled=True).header == GOOD


def test_of_a_newer_version_what_is_known_is_read() -> None:
    assert trace_of(b"01" + GOOD[2:].encode() + b"-more") == Trace(TRACE_ID, SPAN_ID, sampled=True)


@pytest.mark.parametrize(
    "header",
    [
        "",
        GOOD.upper(),
        GOOD + "-more",
        GOOD + " ",
        GOOD[:-1],
        "ff" + GOOD[2:],
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID[:-1]}g-{SPAN_ID}-01",
        "01" + GOOD[2:] + "-" + "x" * 300,
        GOOD.replace("-", "_"),
    ],
)
def test_what_is_no_traceparent_is_none(header: str) -> None:
    assert trace_of(header.encode()) is None


def test_without_an_exporter_only_the_callers_trace_is_known_and_nothing_is_made() -> None:
    assert begin(None) is None
    assert begin(b"nonsense") is None
    assert begin(GOOD.encode()) == Trace(TRACE_ID, SPAN_ID, sampled=True)
    with span("nothing"):
        assert TRACE.get() is None


async def test_spans_know_their_parents_through_tasks(spans: list[Span]) -> None:
    token = TRACE.set(begin(GOOD.encode()))
    with request_span("door", {}):
        heed()
        with span("relay", attributes={"part": 1}):
            await asyncio.create_task(_call())
        record("Redis load", 0.5, {}, failed=False)
    TRACE.reset(token)

    by_name = {span.name: span for span in spans}
    assert [one.name for one in spans] == ["COS upload_part", "relay", "Redis load", "door"]
    assert {one.trace.trace_id for one in spans} == {TRACE_ID}
    assert by_name["door"].parent_id == SPAN_ID
    assert by_name["relay"].parent_id == by_name["Redis load"].parent_id == by_name["door"].trace.span_id
    assert by_name["COS upload_part"].parent_id == by_name["relay"].trace.span_id
    assert by_name["Redis load"].end - by_name["Redis load"].start == 500_000_000


async def _call() -> None:
    record("COS upload_part", 0.01, {}, failed=False)


def test_a_span_that_fails_says_so(spans: list[Span]) -> None:
    token = TRACE.set(begin(None))
    with pytest.raises(ValueError, match="broken"), span("door"):
        raise ValueError("broken")
    TRACE.reset(token)

    assert [(one.failed, one.parent_id) for one in spans] == [(True, "")]


def test_what_its_caller_does_not_record_is_not_recorded(spans: list[Span]) -> None:
    token = TRACE.set(begin(GOOD[:-1].encode() + b"0"))
    with span("door"):
        record("Redis load", 0.5, {}, failed=False)
    TRACE.reset(token)

    assert spans == []


def test_of_requests_without_a_trace_a_share_is_recorded(spans: list[Span]) -> None:
    for share, expected in ((1.0, {True}), (0.0, {False})):
        tracing.install(spans.append, share)
        begun = [begin(None) for _ in range(50)]
        assert {trace.sampled for trace in begun if trace is not None} == expected
        assert len({trace.trace_id for trace in begun if trace is not None}) == 50


def test_a_random_trace_that_nobody_decided_on_is_recorded_whole_or_not_at_all(spans: list[Span]) -> None:
    low, high = (f"00-{'a' * 18}{end}-{SPAN_ID}-02".encode() for end in ("1" * 14, "e" * 14))
    for share, expected in ((0.0, (False, False)), (0.5, (True, False)), (1.0, (True, True))):
        tracing.install(spans.append, share)
        begun = [begin(header) for header in (low, high)]
        assert tuple(trace.asked for trace in begun if trace is not None) == expected
    tracing.install(spans.append, 0.0)
    assert begin(low[:-2] + b"03") == Trace("a" * 18 + "1" * 14, SPAN_ID, sampled=False, asked=True)
    tracing.install(None)
    assert begin(low) == Trace("a" * 18 + "1" * 14, SPAN_ID, sampled=False)
