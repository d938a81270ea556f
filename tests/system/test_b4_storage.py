"""COS is slow, refuses, lies, is silent, or answers late or twice while parts are sent: table B4 but its completions.

After each fault nothing is acknowledged that COS does not hold, and the same upload goes on.
"""

import itertools
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.system.processes import LocalCos, wait_until
from tests.system.stack import MIB, Caller, Stack, body, good, require_problem, running_stack
from tests.system.upload_under_fault import Upload, metric

RECOVERY_SECONDS: Final = 5.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gateway that waits seconds where others wait minutes."""
    with running_stack(
        tmp_path_factory.mktemp("stack"), cos_connect_seconds="1", cos_stall_seconds="0.5", cos_answer_seconds="1"
    ) as stack:
        yield stack


@pytest.fixture
def upload(stack: Stack, alice: Caller, request: pytest.FixtureRequest) -> Upload:
    return Upload(alice, stack, re.sub(r"\W+", "-", request.node.name))


@pytest.mark.promise(23)
def test_b56_two_internal_errors_are_hidden_and_the_third_attempt_is_the_last(stack: Stack, upload: Upload) -> None:
    stack.cos.fault(
        "error", operation="UploadPart", key=upload.key, part_number=1, status=500, code="InternalError", times=2
    )

    good(upload.put(1))

    starts = [entry["status"] for entry in upload.attempts()]
    assert starts == [500, 500, 200]
    assert metric(stack, 'gateway_cos_errors_total{code="InternalError"}') >= 2
    upload.finish()


@pytest.mark.parametrize(
    ("name", "after_bytes"), [("0", 0), ("1", 1), ("64K", 65536), ("last but one", MIB - 1), ("last", MIB)]
)
@pytest.mark.promise(7)
def test_b62_a_reset_in_the_middle_of_a_body_is_sent_again(
    stack: Stack, upload: Upload, name: str, after_bytes: int
) -> None:
    stack.cos.fault("reset", operation="UploadPart", key=upload.key, after_bytes=after_bytes)

    good(upload.put(1))

    broken, whole = upload.attempts()
    assert (broken["status"], whole["status"]) == (None, 200)
    assert after_bytes <= broken["received_bytes"] <= MIB
    upload.finish()


@pytest.mark.promise(10)
def test_b64_a_part_whose_answer_is_lost_is_sent_again_and_stored_once(stack: Stack, upload: Upload) -> None:
    stack.cos.fault("lost_answer", operation="UploadPart", key=upload.key)

    receipt = good(upload.put(1))

    assert len(upload.attempts()) == 2
    assert upload.stored == 1
    assert good(upload.put(1))["etag"] == receipt["etag"]
    upload.finish()


@pytest.mark.promise(20, 21)
def test_b63_a_cos_that_stops_reading_is_left_within_its_deadline_and_holds_no_memory(
    stack: Stack, alice: Caller
) -> None:
    upload = Upload(alice, stack, "stall.bin", parts=1, part_size=12 * MIB)
    stack.cos.fault("stall", operation="UploadPart", key=upload.key, after_bytes=100_000)
    before, began = stack.gateway.program.rss_bytes, time.monotonic()

    good(upload.put(1))

    assert time.monotonic() - began < 5
    assert stack.gateway.program.rss_bytes - before < 40 * MIB
    assert len(upload.attempts()) == 2
    upload.finish()


@pytest.mark.promise(20)
def test_b63_a_cos_that_never_answers_is_left_within_its_deadline(stack: Stack, upload: Upload) -> None:
    stack.cos.fault("delay", operation="UploadPart", key=upload.key)
    began = time.monotonic()

    good(upload.put(1))

    assert 1.0 <= time.monotonic() - began < 4
    upload.finish()


@pytest.mark.parametrize("action", ["no_etag", "wrong_crc", "no_crc"])
@pytest.mark.promise(7)
def test_b69_an_acknowledgement_that_does_not_hold_is_never_passed_on(
    stack: Stack, upload: Upload, action: str
) -> None:
    stack.cos.fault(action, operation="UploadPart", key=upload.key, part_number=1, times=None)

    document = require_problem(upload.put(1), 502, ["storage_integrity", "storage_bad_answer"])

    assert document["retryable"]
    assert len(upload.attempts()) <= 3
    assert upload.stored == 0
    stack.cos.clear_faults()
    upload.finish()


@pytest.mark.promise(8)
def test_b69_a_wrong_etag_is_found_out_at_complete_and_the_part_asked_for_again(stack: Stack, upload: Upload) -> None:
    stack.cos.fault("wrong_etag", operation="UploadPart", key=upload.key, part_number=2)
    for number in (1, 2):
        good(upload.put(number))

    missing = require_problem(upload.caller.control(upload.id, "complete"), 409, "parts_missing")

    assert missing["missing"] == [[2, 2]]
    upload.finish()


@pytest.mark.parametrize(("seconds", "code"), [(-1200, "RequestTimeTooSkewed"), (2400, "AccessDenied")])
@pytest.mark.promise(20)
def test_b66_a_clock_far_off_is_corrected_once_and_told_to_operators(
    stack: Stack, upload: Upload, seconds: int, code: str
) -> None:
    stack.cos.fault("skewed_clock", seconds=seconds, times=None)
    try:
        for number in (1, 2):
            good(upload.put(number))
        assert [(entry["status"], entry["code"]) for entry in upload.attempts(1)] == [(403, code), (200, "")]
        assert [entry["status"] for entry in upload.attempts(2)] == [200]
        wait_until(lambda: abs(offset(stack) - abs(seconds)) < 10, "the gauge", RECOVERY_SECONDS)
        alarm = [line for line in stack.gateway.log_lines() if "COS's clock" in line["message"]][-1]
        assert alarm["level"] == "error"
    finally:
        stack.cos.clear_faults()

    upload.finish()


def offset(stack: Stack) -> float:
    return metric(stack, "gateway_cos_clock_offset_seconds")


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (404, "NoSuchBucket")])
@pytest.mark.promise(29)
def test_b87_a_right_that_is_taken_away_fails_the_task_until_it_is_restarted(
    stack: Stack, upload: Upload, status: int, code: str
) -> None:
    good(upload.put(1))
    stack.cos.fault("early_error", operation="UploadPart", key=upload.key, status=status, code=code, times=None)

    document = require_problem(upload.put(2), 502, "storage_denied")

    assert not document["retryable"]
    assert len(upload.attempts(2)) == 1
    task = upload.caller.task(upload.id)
    assert (task["state"], task["error"]["code"], task["stored_parts"]) == ("error", "storage_denied", 1)
    stack.cos.clear_faults()
    good(upload.caller.control(upload.id, "restart"))
    upload.finish()


@pytest.mark.promise(26)
def test_b60_an_address_outside_the_ranges_gets_no_byte(stack: Stack) -> None:
    endpoint = stack.cos.url.replace("127.0.0.1", "localhost")
    gateway = stack.start_gateway(cos_endpoint=endpoint, cos_address_ranges="203.0.113.0/24")
    stack.cos.clear_faults()
    seen = len(stack.cos.journal())
    caller = stack.caller("somebody far away", gateway)

    document = require_problem(caller.post_form("b60/never.bin", b"x"), 502, "storage_address_refused")

    assert not document["retryable"]
    assert len(stack.cos.journal()) == seen
    gateway.close()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def keyed(stack: Stack, keys: Path) -> Iterator[Caller]:
    """Somebody at a gateway whose keys are temporary and come from a file."""
    stack.cos.clear_faults()
    write_keys(keys, "first", seconds=3600)
    gateway = stack.start_gateway(cos_secret_id="", cos_secret_key="", cos_credentials_file=str(keys))
    yield stack.caller("somebody with a file", gateway)
    assert "-canary-token" not in gateway.program.log.read_text()
    gateway.close()


@pytest.mark.promise(20, 27)
def test_b67_keys_that_run_out_anywhere_in_an_upload_are_replaced_and_sent_again(
    stack: Stack, keyed: Caller, keys: Path
) -> None:
    upload = Upload(keyed, stack, "keys/replaced.bin")
    for number, operation in enumerate(("UploadPart", "CompleteMultipartUpload")):
        write_keys(keys, f"later-{number}", seconds=3600)
        stack.cos.fault("expired_token", operation=operation, key=upload.key)
        if operation == "UploadPart":
            good(upload.put(1))
            good(upload.put(2))

    upload.finish()

    codes = [entry["code"] for entry in stack.cos.journal(key=upload.key) if entry["code"]]
    assert codes == ["ExpiredToken", "ExpiredToken"]


@pytest.mark.promise(20, 27)
def test_b68_while_their_source_is_gone_keys_serve_until_they_run_out(stack: Stack, keyed: Caller, keys: Path) -> None:
    upload = Upload(keyed, stack, "keys/gone.bin")
    write_keys(keys, "short", seconds=3)
    stack.cos.fault("expired_token", operation="UploadPart", key=upload.key)
    good(upload.put(1))  # now the short-lived keys are in use
    keys.unlink()

    good(upload.put(2))
    seeds = itertools.count()
    wait_until(lambda: keyed.put_part(upload.id, 1, body(next(seeds), MIB)).status_code == 503, "the end", 10)
    refused = keyed.put_part(upload.id, 1, body("other", MIB))
    assert require_problem(refused, 503, "credentials_unavailable")["retryable"]
    write_keys(keys, "back", seconds=3600)
    wait_until(lambda: upload.put(1).status_code == 200, "the keys", RECOVERY_SECONDS)
    upload.finish()


def write_keys(path: Path, token: str, *, seconds: float) -> None:
    """As whoever renews them would: the file is replaced as a whole."""
    found = {
        "TmpSecretId": LocalCos.SECRET_ID,
        "TmpSecretKey": LocalCos.SECRET_KEY,
        "Token": f"{token}-canary-token",
        "ExpiredTime": time.time() + seconds,
    }
    new = path.with_suffix(".new")
    new.write_text(json.dumps(found))
    new.replace(path)
