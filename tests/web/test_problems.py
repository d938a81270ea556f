import json
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.domain.errors import (
    CosAnswer,
    GatewayError,
    OffsetMismatch,
    Overloaded,
    StorageUnavailable,
    TaskNotFound,
    Unauthenticated,
    all_codes,
)
from gateway.domain.task import TaskError
from gateway.web.problems import error_document, exception_handlers, problem, problem_response


def test_a_problem_has_the_standard_members_and_the_errors_facts() -> None:
    assert problem(OffsetMismatch("Body starts at 5, expected 7.", next_offset=7), "r1") == {
        "type": "urn:upload-gateway:error:offset_mismatch",
        "title": "Wrong offset",
        "status": 409,
        "code": "offset_mismatch",
        "retryable": True,
        "request_id": "r1",
        "detail": "Body starts at 5, expected 7.",
        "next_offset": 7,
    }


def test_facts_cannot_replace_a_standard_member() -> None:
    assert problem(TaskNotFound(status=200), "r1")["status"] == 404


def test_a_problem_tells_what_cos_said() -> None:
    told = problem(StorageUnavailable("COS failed.", cos=CosAnswer(500, "InternalError", "c1")), "r1")

    assert told["cos"] == {"status": 500, "code": "InternalError", "request_id": "c1"}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Overloaded(), "1"),
        (Overloaded(retry_after_seconds=2.1), "3"),
        (StorageUnavailable(retry_after_seconds=0), "0"),
        (StorageUnavailable(), None),
    ],
)
def test_retry_after_is_whole_seconds_rounded_up(error: GatewayError, expected: str | None) -> None:
    assert problem_response(error, "r1").headers.get("retry-after") == expected


@pytest.mark.parametrize("kind", all_codes().values(), ids=all_codes())
def test_every_registered_error_becomes_an_answer(kind: type[GatewayError]) -> None:
    answer = problem_response(kind("Why."), "r1")

    assert answer.status_code == kind.status_hint
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert ("www-authenticate" in answer.headers) is (kind.status_hint == 401)
    assert json.loads(bytes(answer.body))["code"] == kind.code


def test_a_tasks_error_is_told_in_the_same_words() -> None:
    record = TaskError.of(StorageUnavailable("COS failed.", cos=CosAnswer(500, "InternalError", "c1")))

    assert error_document(record) == {
        "code": "storage_unavailable",
        "title": "COS is unavailable",
        "detail": "COS failed.",
        "retryable": True,
        "cos": {"status": 500, "code": "InternalError", "request_id": "c1"},
    }
    assert error_document(TaskError.of(TaskNotFound()))["cos"] is None


async def ask(path: str, method: str = "GET") -> httpx.Response:
    async def refused(request: Request) -> Response:
        raise Unauthenticated

    async def broken(request: Request) -> Response:
        raise RuntimeError("the secret is 42")

    async def unreadable(request: Request) -> Response:
        raise HTTPException(400)

    async def gone(request: Request) -> Response:
        raise ClientDisconnect

    app = Starlette(
        routes=[
            Route("/refused", refused, methods=["GET"]),
            Route("/broken", broken),
            Route("/unreadable", unreadable),
            Route("/gone", gone),
        ],
        exception_handlers=exception_handlers(),
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.request(method, path)


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/refused", "GET", 401, "unauthenticated"),
        ("/nowhere", "GET", 404, "not_found"),
        ("/refused", "DELETE", 405, "method_not_allowed"),
        ("/broken", "GET", 500, "internal"),
        ("/unreadable", "GET", 400, "bad_request"),
    ],
)
async def test_an_application_answers_each_failure_with_its_problem(
    path: str, method: str, status: int, code: str
) -> None:
    answer = await ask(path, method)

    told: dict[str, Any] = answer.json()
    assert (answer.status_code, told["status"], told["code"]) == (status, status, code)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_client_that_has_left_gets_an_answer_that_only_the_log_sees() -> None:
    answer = await ask("/gone")

    assert (answer.status_code, answer.content) == (499, b"")


async def test_a_wrong_method_is_told_the_right_ones() -> None:
    assert set((await ask("/refused", "DELETE")).headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_an_unexpected_failure_tells_nothing_of_itself() -> None:
    answer = await ask("/broken")

    assert "secret" not in answer.text
    assert "detail" not in answer.json()
