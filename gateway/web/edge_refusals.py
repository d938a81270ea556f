"""What the edge answers by itself, before there is a request to hand on: a problem document, or COS's XML."""

from gateway.domain.errors import GatewayError
from gateway.web.cos_answers import refusal_answer
from gateway.web.cos_problems import refusal_of
from gateway.web.http_exchange import CLOSE, REASONS
from gateway.web.problems import problem_response

Headers = list[tuple[bytes, bytes]]


def refusal_message(error: GatewayError, request_id: str, headers: Headers, *, as_cos: bool) -> bytes:
    """A whole HTTP message that tells *error* and that the connection ends; *headers* come first in it."""
    status, more, body = _as_cos(error, request_id) if as_cos else _as_problem(error, request_id)
    lines = b"".join(b"%s: %s\r\n" % pair for pair in [*headers, *more, CLOSE])
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (status, REASONS.get(status, b""), lines, body)


def _as_problem(error: GatewayError, request_id: str) -> tuple[int, Headers, bytes]:
    answer = problem_response(error, request_id)
    return answer.status_code, [*answer.raw_headers, (b"x-request-id", request_id.encode())], bytes(answer.body)


def _as_cos(error: GatewayError, request_id: str) -> tuple[int, Headers, bytes]:
    answer = refusal_answer(refusal_of(error), resource="", request_id=request_id, head_only=False)
    assert isinstance(answer.body, bytes)
    told = [*answer.headers, ("x-cos-request-id", request_id), ("Content-Length", str(len(answer.body)))]
    return answer.status, [(name.encode(), value.encode()) for name, value in told], answer.body
