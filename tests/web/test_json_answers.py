"""Answers with long lists are what JSONResponse would write."""

import json
from typing import Any

import pytest
from starlette.responses import JSONResponse

from gateway.web.json_answers import ROWS_AT_ONCE, list_answer


@pytest.mark.parametrize("count", [0, 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, 3 * ROWS_AT_ONCE])
async def test_a_list_is_rendered_as_in_one_go(count: int) -> None:
    def row(number: int) -> dict[str, Any]:
        return {"n": number, "text": '页 \\u0000 "', "none": None}

    answer = await list_answer("rows", range(count), row, {"next_cursor": None, "x": 1.5}, 201, {"Location": "/a"})

    whole = JSONResponse({"rows": list(map(row, range(count))), "next_cursor": None, "x": 1.5}, 201, {"Location": "/a"})
    assert (answer.status_code, answer.body, answer.headers) == (201, whole.body, whole.headers)
    assert len(json.loads(bytes(answer.body))["rows"]) == count
