"""The local COS fails exactly as asked, exactly as often, and tells what it saw."""

import asyncio
import http.client
import json
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from gateway.domain.checksums import crc64
from tests.dev.test_cos_upload_calls import PIECES, complete, initiate, put_part, put_pieces
from tests.fakes.cos_caller import CallerAnswer, CosCaller, etag_of
from tests.fakes.local_cos import BUCKET, KEY, RunningCos, running_local_cos

MIB = 1 << 20
BROKEN = (ConnectionError, http.client.BadStatusLine, http.client.IncompleteRead)


def test_a_fault_meets_only_the_calls_it_names_and_only_so_often(caller: CosCaller, cos: RunningCos) -> None:
    upload_id = initiate(caller)
    fault = {"operation": "UploadPart", "key": "k", "part_number": 2, "times": 2, "retry_after_seconds": 3}
    cos.fault("error", **fault, status=503, code="SlowDown")

    answers = [put_part(caller, upload_id, number, b"x") for number in (1, 2, 2, 2)]

    assert [answer.status for answer in answers] == [200, 503, 503, 200]
    assert (answers[1].code, answers[1].headers["retry-after"]) == ("SlowDown", "3")


def test_a_fault_may_name_its_attempts(caller: CosCaller, cos: RunningCos) -> None:
    cos.fault("error", operation="PutObject", attempts=[2, 4], times=None)

    assert [caller.call("PUT", "k", body=b"x").status for _ in range(5)] == [200, 503, 200, 503, 200]
    assert caller.call("PUT", "other", body=b"x").status == 200


def test_an_error_takes_the_body_and_an_early_one_does_not(caller: CosCaller, cos: RunningCos) -> None:
    cos.fault("error", status=500, code="InternalError")
    cos.fault("early_error", status=403, code="AccessDenied")

    late = caller.call("PUT", "k", body=PIECES[0])
    early = caller.call("PUT", "k", body=PIECES[0])

    assert (late.status, early.status) == (500, 403)
    assert [entry["received_bytes"] for entry in cos.journal("PutObject")] == [MIB, 0]
    assert cos.keys(BUCKET) == []


@pytest.mark.parametrize("after_bytes", [0, MIB // 2])
def test_a_reset_breaks_the_connection_at_its_byte(caller: CosCaller, cos: RunningCos, after_bytes: int) -> None:
    cos.fault("reset", operation="PutObject", after_bytes=after_bytes)

    with pytest.raises(BROKEN):
        caller.call("PUT", "k", body=PIECES[0])

    (entry,) = cos.journal("PutObject")
    assert entry["status"] is None
    assert after_bytes <= entry["received_bytes"] < MIB
    assert cos.keys(BUCKET) == []


def test_a_lost_answer_is_of_something_stored(caller: CosCaller, cos: RunningCos) -> None:
    upload_id = initiate(caller)
    parts = put_pieces(caller, upload_id)
    cos.fault("lost_answer", operation="CompleteMultipartUpload")

    with pytest.raises(BROKEN):
        complete(caller, upload_id, parts)

    assert cos.read(BUCKET, "k") == b"".join(PIECES)
    assert complete(caller, upload_id, parts).code == "NoSuchUpload"


async def test_a_stall_goes_on_when_the_faults_are_cleared(caller: CosCaller, cos: RunningCos) -> None:
    cos.fault("stall", operation="PutObject", after_bytes=MIB // 2)
    sending = asyncio.create_task(asyncio.to_thread(caller.call, "PUT", "k", body=PIECES[0]))
    entries = await cos.until(lambda entries: entries[-1]["received_bytes"] > MIB // 2)
    stalled_at = entries[-1]["received_bytes"]
    with pytest.raises(TimeoutError):
        await cos.until(lambda entries: entries[-1]["received_bytes"] > stalled_at, seconds=0.2)
    cos.clear_faults()

    assert (await sending).status == 200
    assert cos.read(BUCKET, "k") == PIECES[0]


@pytest.mark.parametrize("action", ["delay", "stall"])
def test_a_delay_lasts_as_long_as_asked(caller: CosCaller, cos: RunningCos, action: str) -> None:
    cos.fault(action, seconds=0.3)
    began = time.monotonic()

    assert caller.call("PUT", "k", body=b"x").status == 200
    assert time.monotonic() - began >= 0.3


def test_a_slow_store_reads_at_its_rate(caller: CosCaller, cos: RunningCos) -> None:
    cos.fault("slow", bytes_per_second=2 * MIB)
    began = time.monotonic()

    assert caller.call("PUT", "k", body=PIECES[0]).status == 200
    assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize(
    ("action", "wrong"),
    [
        ("wrong_etag", lambda answer: answer.headers["etag"] != etag_of(b"x")),
        ("no_etag", lambda answer: "etag" not in answer.headers),
        ("wrong_crc", lambda answer: answer.headers["x-cos-hash-crc64ecma"] != str(crc64(b"x"))),
        ("no_crc", lambda answer: "x-cos-hash-crc64ecma" not in answer.headers),
    ],
)
def test_checksums_may_be_wrong_or_missing(
    caller: CosCaller, cos: RunningCos, action: str, wrong: Callable[[CallerAnswer], bool]
) -> None:
    cos.fault(action, operation="PutObject")

    assert [wrong(caller.call("PUT", "k", body=b"x")) for _ in range(2)] == [True, False]


def test_a_flipped_byte_is_stored_and_told_by_the_checksums(caller: CosCaller, cos: RunningCos) -> None:
    cos.fault("flip", after_bytes=70_000)

    answer = caller.call("PUT", "k", body=PIECES[0])

    stored = cos.read(BUCKET, "k")
    assert [index for index in range(MIB) if stored[index] != PIECES[0][index]] == [70_000]
    assert answer.headers["x-cos-hash-crc64ecma"] == str(crc64(stored))


def test_a_skewed_clock_shows_in_date_and_verdict(caller: CosCaller, cos: RunningCos) -> None:
    cos.fault("skewed_clock", seconds=7200)

    answer = caller.call("GET", "k")

    ahead = parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()
    assert (answer.code, answer.text("Message")) == ("AccessDenied", "Request has expired")
    assert 7100 < ahead < 7300


def test_a_token_may_expire_between_two_calls(caller: CosCaller, cos: RunningCos) -> None:
    cos.fault("expired_token", attempts=[2])

    assert [caller.call("PUT", "k", body=b"x").status for _ in range(3)] == [200, 400, 200]


def test_complete_may_pad_before_or_after_its_declaration(caller: CosCaller, cos: RunningCos) -> None:
    cos.fault("padded", operation="CompleteMultipartUpload", key="k", seconds=0.2)
    padded = _complete_new(caller)
    cos.fault("padded_before", operation="CompleteMultipartUpload", key="k", seconds=0.2)
    padded_before = _complete_new(caller)

    assert padded.body.startswith(b"<?xml")
    assert b">\n  " in padded.body
    assert (padded.text("ETag") or "").endswith('-3"')
    assert padded_before.body.startswith(b"  ")
    assert b"  <?xml" in padded_before.body


def test_complete_may_fail_inside_its_200(caller: CosCaller, cos: RunningCos) -> None:
    cos.fault("error_in_200", operation="CompleteMultipartUpload", code="InternalError")
    failed = _complete_new(caller)
    keys = cos.keys(BUCKET)
    cos.fault("truncated", operation="CompleteMultipartUpload")
    cut = _complete_new(caller)

    assert (failed.status, failed.code, keys) == (200, "InternalError", [])
    assert cut.status == 200
    assert b"</CompleteMultipartUploadResult>" not in cut.body
    assert cos.keys(BUCKET) == ["k"]


def test_complete_may_pad_for_ever(caller: CosCaller, cos: RunningCos) -> None:
    upload_id = initiate(caller)
    cos.fault("endless_spaces", operation="CompleteMultipartUpload")
    connection = http.client.HTTPConnection("127.0.0.1", cos.port, timeout=5)
    connection.request("POST", f"/k?uploadId={upload_id}", b"", {"Host": BUCKET.host})
    answer = connection.getresponse()

    assert answer.read(60).endswith(b"     ")
    connection.close()


def test_an_abort_may_be_ignored(caller: CosCaller, cos: RunningCos) -> None:
    upload_id = initiate(caller)
    cos.fault("ignored", operation="AbortMultipartUpload")

    answers = [caller.call("DELETE", "k", {"uploadId": upload_id}).status for _ in range(3)]

    assert answers == [204, 204, 404]


def test_the_journal_says_what_came_and_never_a_secret(caller: CosCaller, cos: RunningCos) -> None:
    upload_id = initiate(caller, **{"x-cos-meta-a": "b"})
    put_part(caller, upload_id, 7, b"abc")
    put_part(caller, "unknown", 1, b"abc")

    first, second, third = cos.journal()

    assert (first["operation"], first["headers"]["x-cos-meta-a"]) == ("InitiateMultipartUpload", "b")
    names = ("operation", "bucket", "key", "upload_id", "part_number", "attempt", "received_bytes", "status", "code")
    assert [second[name] for name in names] == ["UploadPart", BUCKET.name, "k", upload_id, 7, 1, 3, 200, ""]
    assert (third["status"], third["code"]) == (404, "NoSuchUpload")
    assert "authorization" not in first["headers"]


@pytest.mark.parametrize("rule", [{"action": "explode"}, {}, {"action": "reset", "colour": "red"}, "reset", 7])
def test_a_rule_that_is_none_is_refused(caller: CosCaller, rule: object) -> None:
    answer = caller.send("POST", "/.local-cos/faults", {"Host": "127.0.0.1"}, json.dumps(rule).encode())

    assert answer.status == 400


def test_without_leave_there_is_nothing_to_control(tmp_path: Path) -> None:
    with running_local_cos(tmp_path, faults=False) as cos:
        caller = CosCaller(cos.port, BUCKET, KEY)

        answers = [
            caller.send("GET", "/.local-cos/journal", {"Host": "127.0.0.1"}),
            caller.send("POST", "/.local-cos/faults", {"Host": "127.0.0.1"}, b"{}"),
        ]

    assert [answer.code for answer in answers] == ["AccessDenied", "MethodNotAllowed"]


def _complete_new(caller: CosCaller) -> CallerAnswer:
    upload_id = initiate(caller)
    return complete(caller, upload_id, put_pieces(caller, upload_id))


def test_pages_without_an_end_follow_each_other(caller: CosCaller, cos: RunningCos) -> None:
    upload_id = initiate(caller)
    cos.fault("endless_pages", operation="ListParts", times=2, seconds=0)

    for marker in (0, 8):
        answer = caller.call("GET", "k", {"uploadId": upload_id, "part-number-marker": str(marker)})
        numbers = [row.text for row in answer.xml.iterfind(".//{*}PartNumber")]
        assert (answer.text("IsTruncated"), answer.text("NextPartNumberMarker")) == ("true", str(marker + 1))
        assert numbers == [str(marker + 1)]
