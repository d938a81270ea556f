"""Bodies that are read whole: what they hold before, while and after they are read."""

import gc
import json
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Any, Final

import pytest
from starlette.requests import Request

from gateway.cos.xml_tree import read_xml
from gateway.domain.errors import BodyTooLarge, GatewayError, Overloaded
from gateway.transfer.memory_budget import MemoryBudget
from gateway.web.batch_routes import CreateBatch
from gateway.web.cos_complete import MAX_LIST_BYTES, read_bytes
from gateway.web.json_bodies import LARGE_BODY_BYTES, parse, parsed_bytes
from gateway.web.json_decoding import MAX_COMMAS, MAX_LISTS, decode
from gateway.web.kept_body import STEP_BYTES, KeptBody
from gateway.web.task_requests import CompleteTask, CreateTask

LIMIT: Final = 1 << 20


def request(chunks: Iterable[bytes], length: int | None, on_chunk: Callable[[], None] = lambda: None) -> Request:
    """A request whose body comes in *chunks*; *on_chunk* is called before each."""
    left = iter(chunks)

    async def receive() -> dict[str, Any]:
        on_chunk()
        piece = next(left, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    header = (b"transfer-encoding", b"chunked") if length is None else (b"content-length", str(length).encode())
    return Request({"type": "http", "headers": [header]}, receive)


def too_large() -> GatewayError:
    return BodyTooLarge("too large")


async def test_s6_a_body_of_known_length_is_leased_before_a_byte_is_read() -> None:
    budget = MemoryBudget(10 * LIMIT)
    held: list[int] = []
    with budget.open("alice") as lease:
        asked = request([b"a" * 1000] * 3, 3000, lambda: held.append(budget.used_bytes))
        assert await KeptBody(asked, lease, nullcontext).read(LIMIT, too_large) == b"a" * 3000

    assert min(held) >= 3000
    assert budget.used_bytes == 0


async def test_s6_a_body_of_unknown_length_is_leased_step_by_step() -> None:
    budget = MemoryBudget(10 * LIMIT)
    held: list[int] = []
    with budget.open("alice") as lease:
        asked = request([bytes(1000)] * 1000, None, lambda: held.append(budget.used_bytes))
        assert len(await KeptBody(asked, lease, nullcontext).read(LIMIT, too_large)) == 1_000_000

    assert all(had >= 1000 * number for number, had in enumerate(held[1:]))
    assert all(later - sooner <= 2 * STEP_BYTES + 2000 for sooner, later in pairwise(held))


async def test_s6_a_body_in_tiny_chunks_costs_no_more_than_its_bytes() -> None:
    chunks = (bytes(1) for _ in range(30_000))
    with MemoryBudget(LIMIT).open("alice") as lease, peak() as taken:
        await KeptBody(request(chunks, None), lease, nullcontext).read(LIMIT, too_large)

    assert taken() < 300_000


@pytest.mark.parametrize("length", [3000, None])
async def test_s6_without_memory_for_it_a_body_is_refused(monkeypatch: pytest.MonkeyPatch, length: int | None) -> None:
    monkeypatch.setattr("gateway.web.kept_body.WAIT_SECONDS", 0.01)
    with MemoryBudget(2000).open("alice") as lease, pytest.raises(Overloaded) as refused:
        await KeptBody(request([bytes(1000)] * 3, length), lease, nullcontext).read(LIMIT, too_large)

    assert refused.value.retry_after_seconds


@pytest.mark.parametrize(("length", "reads"), [(LIMIT + 1, 0), (None, 2)])
async def test_what_is_too_large_is_read_no_further(length: int | None, reads: int) -> None:
    read: list[bool] = []
    asked = request([bytes(LIMIT // 2 + 1)] * 5, length, lambda: read.append(True))
    with MemoryBudget(10 * LIMIT).open("alice") as lease, pytest.raises(BodyTooLarge):
        await KeptBody(asked, lease, nullcontext).read(LIMIT, too_large)

    assert len(read) == reads


async def test_a_body_that_is_not_announced_is_not_asked_for() -> None:
    def asked_for() -> None:
        raise AssertionError

    with MemoryBudget(0).open("alice") as lease:
        body = KeptBody(request([], 0, asked_for), lease, nullcontext)
        assert not body.is_announced
        assert await body.read(LIMIT, too_large) == b""


# --- what is made of a body ---------------------------------------------------------------------------------------


@contextmanager
def peak() -> Iterator[Callable[[], int]]:
    """How many bytes are taken in the block at its worst."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield lambda: tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def completed(raw: bytes) -> object:
    return parse(CompleteTask, decode(raw)).wanted()


def batched(raw: bytes) -> object:
    wanted = parse(CreateBatch, decode(raw))
    return wanted, [parse(CreateTask, file).new_task(slice_size=1 << 20, part_size=4 << 20) for file in wanted.files]


def listed(*members: str) -> bytes:
    told = {"etag": '"' + "a" * 32 + '"', "crc64": "12345678901234567890"}
    parts = [{"number": number, **{name: told[name] for name in members}} for number in range(1, 2_001)]
    return json.dumps({"parts": parts}).encode()


def files(count: int, **options: Any) -> bytes:
    return json.dumps({"files": [{"key": f"a/{number}", "size": 1, **options} for number in range(count)]}).encode()


def array(item: bytes, count: int) -> bytes:
    return b'{"files":[' + b",".join([item] * count) + b"]}"


DOCUMENTS: Final[dict[str, tuple[bytes, Callable[[bytes], object]]]] = {
    "a list of parts": (listed("etag", "crc64"), completed),
    "numbers alone": (listed(), completed),
    "a batch": (files(200), batched),
    "a batch with options": (files(200, meta={f"m{number}": "v" * 40 for number in range(15)}), batched),
    "a fingerprint": (
        json.dumps({"key": "a", "fingerprint": {"size": 10, "part_size": 1, "parts_md5": ["0" * 32] * 2_000}}).encode(),
        lambda raw: parse(CreateTask, decode(raw)),
    ),
    "empty objects": (array(b"{}", MAX_LISTS - 2), decode),
    "empty lists": (array(b"[]", MAX_LISTS - 2), decode),
    "lists in lists": (array(b"[[[[[[[[[[1]]]]]]]]]]", MAX_LISTS // 10 - 1), decode),
    "objects in objects": (array(b'{"a":{"b":{"c":1}}}', MAX_LISTS // 3 - 1), decode),
    "numbers": (array(b"1.5", MAX_COMMAS), decode),
    "texts": (array(b'"ab"', MAX_COMMAS), decode),
    "one wide character": (array(b'"' + b"a" * 900_000 + "\U0001f600".encode() + b'"', 1), decode),
    "one escaped wide character": (array(b'"' + b"a" * 900_000 + b'\\ud83d\\ude00"', 1), decode),
    "names": (array(b"{" + b",".join(b'"%d":1' % number for number in range(60)) + b"}", 500), decode),
}
PARTS: Final = b"<Part><PartNumber>%d</PartNumber><ETag>&quot;0123456789abcdef0123456789abcdef&quot;</ETag></Part>"
LISTS: Final = {
    "parts": b"<C>" + b"".join(PARTS % number for number in range(2_000)) + b"</C>",
    "empty elements": b"<C>" + b"<P/>" * 5_000 + b"</C>",
    "text everywhere": b"<C>" + b"<P>ab</P>cd" * 5_000 + b"</C>",
    "attributes": b"<C>" + b'<P a="1" b="2"/>' * 5_000 + b"</C>",
    "one wide character": b"<C>" + b"a" * 1_000_000 + "\U0001f600".encode() + b"</C>",
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_s6_what_a_json_body_becomes_takes_no_more_than_is_leased_for_it(name: str) -> None:
    raw, read = DOCUMENTS[name]
    assert len(raw) <= LARGE_BODY_BYTES
    read(raw)  # what is made once for all bodies is not this one's

    with peak() as taken:
        read(raw)
        assert len(raw) + taken() <= parsed_bytes(raw)


@pytest.mark.parametrize("name", LISTS)
def test_s6_what_a_list_in_xml_becomes_takes_no_more_than_is_leased_for_it(name: str) -> None:
    raw = LISTS[name]
    assert len(raw) <= MAX_LIST_BYTES

    with peak() as taken:
        tree = read_xml(raw)
        assert len(raw) + taken() <= read_bytes(raw)
        assert tree.name == "C"


@pytest.mark.parametrize("raw", [array(b"[]", MAX_LISTS), b'{"a":' + b"[" * 20_000], ids=["wide", "deep"])
def test_s6_a_body_of_more_objects_and_lists_than_any_needs_is_refused(raw: bytes) -> None:
    with pytest.raises(GatewayError, match=str(MAX_LISTS)):
        decode(raw)
