"""A body read in slices is the body read at once."""

import asyncio
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import BadJson
from gateway.web.json_decoding import MAX_COMMAS, MAX_DEPTH, MAX_MEMBERS, decode, decode_in_slices
from gateway.web.slices import SLICE_ROWS

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def nested(levels: int) -> str:
    return '{"a":' + "[" * levels + "]" * levels + "}"


HOSTILE = {
    "empty": "",
    "a list": "[]",
    "no end": '{"a": [1, 2',
    "no end of the object": '{"a": [1, 2]',
    "a comma at the end of a list": '{"a": [1, 2,]}',
    "a comma at the end of the object": '{"a": [1, 2],}',
    "two commas": '{"a": [1,, 2]}',
    "no colon": '{"a" [1]}',
    "a name that is no text": "{1: [1]}",
    "more behind it": '{"a": [1]} x',
    "a second object": "{}{}",
    "a member twice": '{"a": [1], "a": [2]}',
    "NaN in a list": '{"a": [NaN]}',
    "infinity": '{"a": [1e999]}',
    "a large integer": '{"a": [9007199254740993]}',
    "a lone surrogate in a list": '{"a": ["\\ud800"]}',
    "a lone surrogate as a name": '{"\\ud800": []}',
    "a lone surrogate in a row": '{"a": [{"b": ["\\ud800"]}]}',
    "a control character": '{"a": ["\n"]}',
    "another bracket": '{"a": [1}}',
    "too many members": json.dumps({str(number): [] for number in range(MAX_MEMBERS + 1)}),
    "too many values": json.dumps({"a": [0] * (MAX_COMMAS + 2)}),
    "as deep as may be": nested(MAX_DEPTH - 2),
    "one too deep": nested(MAX_DEPTH - 1),
    "two too deep": nested(MAX_DEPTH),
    "so deep that the decoder gives up": nested(100_000),
    "spaces": ' \t\r\n{ "a" : [ 1 , 2 ] , "b" : { } }\r\n ',
    "an odd space": '\u00a0{"a": [1]}',
    "a mark of byte order": '\ufeff{"a": [1]}',
}


def outcome(read: Any) -> Any:
    try:
        return read()
    except BadJson:
        return BadJson


def in_slices(raw: bytes) -> Any:
    return asyncio.run(decode_in_slices(raw))


@given(st.dictionaries(st.text(max_size=5), VALUES | st.lists(VALUES), max_size=5), st.sampled_from([None, 1]))
def test_s8_what_is_read_in_slices_is_what_is_read_at_once(document: dict[str, Any], indent: int | None) -> None:
    raw = json.dumps(document, indent=indent).encode()

    assert in_slices(raw) == decode(raw) == document


@given(st.text(alphabet='{}[]",:1a \\-.eu', max_size=30))
def test_s8_what_is_refused_at_once_is_refused_in_slices(text: str) -> None:
    raw = text.encode()

    assert outcome(lambda: in_slices(raw)) == outcome(lambda: decode(raw))


@pytest.mark.parametrize("row", list(HOSTILE))
def test_s8_hostile_text_has_one_reading(row: str) -> None:
    raw = HOSTILE[row].encode()

    assert outcome(lambda: in_slices(raw)) == outcome(lambda: decode(raw))


@pytest.mark.parametrize("where", [0, SLICE_ROWS - 1, SLICE_ROWS, SLICE_ROWS + 1, 3 * SLICE_ROWS])
def test_s8_a_bad_row_is_found_wherever_it_stands(where: int) -> None:
    rows: list[Any] = [{"number": number} for number in range(3 * SLICE_ROWS + 1)]
    rows[where] = json.loads(nested(MAX_DEPTH))

    assert outcome(lambda: in_slices(json.dumps({"parts": rows}).encode())) is BadJson


async def test_s8_ten_thousand_rows_hold_up_nobody_for_long() -> None:
    parts = [{"number": number, "etag": f'"{number:032x}"', "crc64": str(10**18 + number)} for number in range(10_000)]
    raw = json.dumps({"parts": parts}).encode()
    reading = asyncio.create_task(decode_in_slices(raw))
    turns: list[float] = []
    while not reading.done():
        began = time.thread_time()
        await asyncio.sleep(0)
        turns.append(time.thread_time() - began)

    assert (await reading) == {"parts": parts}
    assert len(turns) >= len(parts) // SLICE_ROWS
    assert sorted(turns)[-3] < 0.02
