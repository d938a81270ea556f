import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.log_writer import LogWriter
from gateway.logs import JsonFormatter, configure_logging, redacted
from gateway.telemetry import COS_REQUEST_ID, REQUEST_ID, TASK_ID

_CANARY = "canaryCANARY0123456789canaryCANARY"
_JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLXNpZ25hdHVyZQ"


@dataclass(frozen=True, slots=True)
class _Output:
    """What was written, once all that was logged is."""

    stream: io.StringIO
    writer: LogWriter

    def getvalue(self) -> str:
        self.writer.flush(5)
        return self.stream.getvalue()


@pytest.fixture
def output() -> Iterator["_Output"]:
    """What a process with our logging writes; the loggers are as they were afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    yield _Output(stream, configure_logging("info", secrets=[_CANARY, 'quo"ted-secret'], stream=stream))
    root.handlers[:] = before
    root.setLevel(level)


def _lines(output: _Output) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_the_ids_of_the_moment(output: _Output) -> None:
    tokens = [
        (REQUEST_ID, REQUEST_ID.set("r1")),
        (TASK_ID, TASK_ID.set("t1")),
        (COS_REQUEST_ID, COS_REQUEST_ID.set("c1")),
    ]
    logging.getLogger("gateway.web").info("part %d\nstored", 3, extra={"status": 200, "路": "上传"})
    for variable, token in tokens:
        variable.reset(token)

    [line] = _lines(output)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "gateway.web",
        "message": "part 3\nstored",
        "request_id": "r1",
        "task_id": "t1",
        "cos_request_id": "c1",
        "status": 200,
        "路": "上传",
    }


def test_ids_that_are_not_known_are_left_out(output: _Output) -> None:
    logging.getLogger("gateway").warning("hello")

    assert set(_lines(output)[0]) == {"time", "level", "logger", "message"}


def test_what_is_no_utf_8_is_spelled_out_in_a_line_that_can_be_read() -> None:
    extra = {"raw": b"\xff", "when": complex(1)}
    record = logging.makeLogRecord({"msg": "file %s", "args": ("a\ud83d",), "levelname": "INFO", **extra})

    line = JsonFormatter().format(record)
    assert line.isascii()
    told = json.loads(line)
    assert [told["message"], told["raw"], told["when"]] == ["file a\ud83d", repr(b"\xff"), "(1+0j)"]


def test_time_is_utc_with_milliseconds() -> None:
    record = logging.makeLogRecord({"created": 1_700_000_000.25, "msg": "x", "levelname": "INFO"})

    assert json.loads(JsonFormatter().format(record))["time"] == "2023-11-14T22:13:20.250Z"


def test_an_exception_is_told_with_its_stack(output: _Output) -> None:
    try:
        raise RuntimeError(f"failed with {_CANARY}")
    except RuntimeError:
        logging.getLogger("gateway").exception("unexpected")

    [line] = _lines(output)
    assert "RuntimeError: failed with ***" in line["exception"]


def test_below_the_level_and_from_noisy_libraries_nothing_is_written(output: _Output) -> None:
    logging.getLogger("gateway").debug("detail")
    logging.getLogger("httpx").info("HTTP Request: PUT …")
    logging.getLogger("python_multipart.multipart").warning("a malformed byte")

    assert output.getvalue() == ""


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {_CANARY}",
        f"authorization={_CANARY}",
        f"bearer.{_CANARY}",
        f"gateway.v1, bearer.{_CANARY}",
        f"q-sign-algorithm=sha1&q-signature={_CANARY}&x=1",
        f"x-cos-security-token: {_CANARY}",
        f"/key?x-cos-security-token={_CANARY}&part=1",
        f"Upload-Ticket: {_CANARY}",
        f"{{'upload-ticket': '{_CANARY}'}}",
        f"(b'upload-ticket', b'{_CANARY}')",
        f"http://127.0.0.1:8080/#token={_CANARY}",
    ],
)
def test_what_looks_like_a_secret_is_starred_wherever_it_stands(text: str) -> None:
    for line in (text, json.dumps({"message": text}), json.dumps({"outer": json.dumps({"inner": text})})):
        cleaned = redacted(line)

        assert _CANARY not in cleaned
        assert "***" in cleaned
        if line != text:
            json.loads(cleaned)


def test_a_bare_token_is_starred() -> None:
    assert redacted(f"got {_JWT}.") == "got ***."


def test_what_is_no_secret_stays_as_it_is() -> None:
    text = "GET /v1/tasks/{id}/parts/{n} 200 from 127.0.0.1, key=report.pdf, 16384 bytes, bearing 12"

    assert redacted(text) == text


@pytest.mark.parametrize("where", ["message", "extra", "header"])
def test_the_processes_own_secrets_never_reach_the_log(where: str, output: _Output) -> None:
    logger = logging.getLogger("gateway")
    for secret in (_CANARY, 'quo"ted-secret', _JWT):
        match where:
            case "message":
                logger.info("value %s", secret)
            case "extra":
                logger.info("x", extra={"value": {"deep": [secret]}})
            case _:
                logger.info("x", extra={"headers": {"upload-ticket": secret}})

    text = output.getvalue()
    assert len(_lines(output)) == 3
    assert not any(part in text for part in (_CANARY, "ted-secret", "c2lnbmF0dXJl"))
