from collections.abc import Iterator
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from gateway import tracing
from gateway.audit import note_caller
from gateway.domain.policy import Caller, Policy
from gateway.telemetry import CODE, DOOR, SUBJECT, TASK_ID, TOKEN
from gateway.tracing import TRACE, Span, Trace
from gateway.web.passage import Passage

TRACEPARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Door:
    """What is behind the passage: notes what it sees, and answers 201."""

    def __init__(self) -> None:
        self.saw: list[tuple[str, Trace | None, int]] = []
        self.passage = Passage(self, "rest")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.saw.append((DOOR.get(), TRACE.get(), self.passage.announced_bytes))
        if scope["path"] == "/known":
            note_caller(Caller("alice", Policy(), 2e9))
        if scope["path"] == "/broken":
            raise RuntimeError("broken")
        await send({"type": "http.response.start", "status": 201, "headers": []})

    async def ask(self, *headers: tuple[bytes, bytes], path: str = "/") -> list[Message]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Any:
            raise AssertionError("nobody reads")

        await self.passage({"type": "http", "method": "PUT", "path": path, "headers": list(headers)}, receive, send)
        return sent


@pytest.fixture
def spans() -> Iterator[list[Span]]:
    """What an exporter gets."""
    got: list[Span] = []
    tracing.install(got.append)
    yield got
    tracing.install(None)


async def test_a_request_brings_its_door_its_trace_and_its_length() -> None:
    door = Door()

    await door.ask((b"content-length", b"4096"), (b"traceparent", TRACEPARENT))
    await door.ask()

    [(name, trace, announced), (_, nothing, none)] = door.saw
    assert (name, announced) == ("rest", 4096)
    assert trace is not None
    assert trace.trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert (nothing, none, door.passage.announced_bytes) == (None, 0, 0)


async def test_what_it_announced_is_over_when_it_fails() -> None:
    door = Door()
    with pytest.raises(RuntimeError):
        await door.ask((b"content-length", b"10"), path="/broken")

    assert door.passage.announced_bytes == 0


@pytest.mark.parametrize("length", [b"+3", b"1_0", b"-1", b"9" * 17, b""])
async def test_a_length_that_is_none_counts_nothing(length: bytes) -> None:
    door = Door()
    await door.ask((b"content-length", length))

    assert door.saw[0][2] == 0


async def test_two_traceparents_are_none() -> None:
    door = Door()
    await door.ask((b"traceparent", TRACEPARENT), (b"traceparent", TRACEPARENT))

    assert door.saw[0][1] is None


async def test_a_recorded_request_is_a_span_with_its_status(spans: list[Span]) -> None:
    door = Door()

    await door.ask((b"traceparent", TRACEPARENT), path="/known")

    [one] = spans
    assert (one.name, one.kind, one.parent_id) == ("PUT rest", "server", "00f067aa0ba902b7")
    assert one.attributes == {
        "door": "rest",
        "http.request.method": "PUT",
        "http.response.status_code": 201,
        "http.route": "none",
    }


async def test_probes_are_no_traces(spans: list[Span]) -> None:
    await Door().ask(path="/readyz")

    assert spans == []


async def test_s12_a_request_knows_nothing_of_the_one_that_it_was_pipelined_behind() -> None:
    """The second begins in the context of the first, which has named its caller."""
    door = Door()
    for variable in (SUBJECT, TOKEN, CODE, TASK_ID):
        variable.set("of the first")

    await door.ask()

    assert [variable.get() for variable in (SUBJECT, TOKEN, CODE, TASK_ID)] == [None] * 4


@pytest.mark.parametrize("flags", [b"01", b"02", b"03"])
async def test_s20_a_strangers_wish_to_be_recorded_counts_for_nothing(spans: list[Span], flags: bytes) -> None:
    """Nor does an id that they chose to lie within our share."""
    door, asking = Door(), (b"traceparent", b"00-" + b"0" * 31 + b"1-00f067aa0ba902b7-" + flags)

    await door.ask(asking)
    assert spans == []
    assert door.saw[0][1] is not None  # its id is in the log all the same

    await door.ask(asking, path="/known")
    assert [span.parent_id for span in spans] == ["00f067aa0ba902b7"]


async def test_s20_callers_are_recorded_on_their_wish_up_to_a_rate(spans: list[Span]) -> None:
    for _ in range(tracing.HEEDED_AT_ONCE + 200):
        await Door().ask((b"traceparent", TRACEPARENT), path="/known")

    assert tracing.HEEDED_AT_ONCE <= len(spans) < tracing.HEEDED_AT_ONCE + 200
    await Door().ask(path="/known")
    assert spans[-1].parent_id == ""  # what we record by our own share has nothing to do with it
