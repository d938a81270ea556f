"""COS pads, fails, lies or is lost while it completes or aborts: table B4, rows 57, 71 to 79 and 85; B2, 31.

Whatever it says, a task is a success only if its object is the file, and only a failure if it is not.
"""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes.cos_caller import caller_at
from tests.system.processes import LocalCos, wait_until
from tests.system.stack import MIB, Caller, Stack, body, good, require_problem, running_stack
from tests.system.upload_under_fault import Upload, metric

COMPLETE_SECONDS = 2.5
BREAKER = 'gateway_cos_breaker_open{bucket="files-1250000000"}'


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gateway that waits seconds where others wait minutes."""
    with running_stack(
        tmp_path_factory.mktemp("stack"), cos_complete_seconds=str(COMPLETE_SECONDS), complete_wait_seconds="0.6"
    ) as stack:
        yield stack


@pytest.fixture
def upload(stack: Stack, alice: Caller, request: pytest.FixtureRequest) -> Upload:
    """Every part of it is stored."""
    upload = Upload(alice, stack, re.sub(r"\W+", "-", request.node.name))
    for number in (1, 2):
        good(upload.put(number))
    return upload


def complete(stack: Stack, action: str, upload: Upload, **rule: object) -> None:
    """What COS is to do with the completion of *upload*."""
    stack.cos.fault(action, operation="CompleteMultipartUpload", key=upload.key, **rule)


def state_of(upload: Upload) -> str:
    return str(upload.caller.task(upload.id)["state"])


def require_success(upload: Upload, seconds: float = 10) -> None:
    """It ends in success, by whatever 202s, and the object is the file."""
    upload.caller.control(upload.id, "complete")
    wait_until(lambda: state_of(upload) == "success", "the success", seconds)
    assert good(upload.caller.control(upload.id, "complete"))["result"]["crc64_verified"]
    assert upload.stack.cos.read(upload.key) == upload.data


@pytest.mark.promise(7, 8)
def test_b31_a_bit_that_flips_at_rest_is_found_at_complete_and_a_restart_begins_anew(
    stack: Stack, upload: Upload
) -> None:
    upload_id = upload.caller.task(upload.id)["upload_id"]
    [part] = stack.folder.glob(f"data/cos/.uploads/*/{upload_id}/00002-*")
    with part.open("r+b") as file:
        file.seek(MIB // 2)
        byte = file.read(1)[0]
        file.seek(MIB // 2)
        file.write(bytes([byte ^ 1]))

    document = require_problem(upload.caller.control(upload.id, "complete"), 502, "integrity_failed")

    assert not document["retryable"]
    assert state_of(upload) == "error"
    assert stack.cos.read(upload.key) != upload.data  # left for its owner to judge
    restarted = good(upload.caller.control(upload.id, "restart"))
    assert (restarted["state"], restarted["loaded"]) == ("waiting", 0)
    upload.finish()


@pytest.mark.promise(8)
def test_b31_what_complete_tells_before_it_merges_is_not_believed(stack: Stack, upload: Upload) -> None:
    """Its CRC-64 is right; that of the object is not."""
    stack.cos.fault("wrong_crc", operation="HeadObject", key=upload.key, times=2)

    require_problem(upload.caller.control(upload.id, "complete"), 502, "integrity_failed")

    assert state_of(upload) == "error"
    assert len(stack.cos.journal("HeadObject", key=upload.key)) == 2


@pytest.mark.promise(8, 13)
def test_f8_one_wrong_crc_of_head_ends_no_task(stack: Stack, upload: Upload) -> None:
    stack.cos.fault("wrong_crc", operation="HeadObject", key=upload.key)

    done = good(upload.caller.control(upload.id, "complete"))

    assert (done["state"], done["result"]["crc64_verified"]) == ("success", True)
    assert stack.cos.read(upload.key) == upload.data


@pytest.mark.promise(12, 13)
def test_b71_a_completion_that_cos_pads_is_waited_for_and_other_calls_see_it_completing(
    stack: Stack, upload: Upload
) -> None:
    complete(stack, "padded", upload, seconds=1.5)

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: upload.caller.control(upload.id, "complete"), range(3)))

    assert {answer.status_code for answer in answers} == {202}
    assert {answer.json()["state"] for answer in answers} == {"completing"}
    require_problem(upload.put(1), 409, "task_completing")
    require_success(upload)
    assert len(stack.cos.journal("CompleteMultipartUpload", key=upload.key)) == 1


@pytest.mark.promise(12, 13)
def test_b71_forty_seconds_of_padding_are_waited_for_by_the_usual_settings(stack: Stack, alice: Caller) -> None:
    upload = Upload(alice.at(stack.start_gateway()), stack, "b71/forty.bin", parts=1)
    good(upload.put(1))
    complete(stack, "padded", upload, seconds=40)
    began = time.monotonic()

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(upload.caller.control, upload.id, "complete")
        wait_until(lambda: state_of(upload) == "completing", "the completion")
        wait_until(lambda: state_of(upload) != "completing", "its end", 50)
        done = good(asked.result())

    assert done["result"]["crc64_verified"]
    assert time.monotonic() - began >= 40
    assert stack.cos.read(upload.key) == upload.data
    assert len(stack.cos.journal("CompleteMultipartUpload", key=upload.key)) == 1


@pytest.mark.promise(12, 13)
def test_b72_an_error_inside_the_200_is_no_success_and_completion_is_tried_again(stack: Stack, upload: Upload) -> None:
    complete(stack, "error_in_200", upload, code="InternalError")

    require_success(upload)
    assert len(stack.cos.journal("CompleteMultipartUpload", key=upload.key)) == 2


@pytest.mark.promise(13, 20)
def test_b73_endless_spaces_are_cut_and_head_decides(stack: Stack, upload: Upload) -> None:
    complete(stack, "endless_spaces", upload)
    before = stack.gateway.program.rss_bytes

    require_success(upload, COMPLETE_SECONDS + 4)

    assert len(stack.cos.journal("HeadObject", key=upload.key)) >= 1
    assert stack.gateway.program.rss_bytes - before < 16 * MIB


@pytest.mark.parametrize("action", ["truncated", "lost_answer", "reset"])
@pytest.mark.promise(12, 13)
def test_b74_an_answer_that_breaks_off_is_settled_by_head(stack: Stack, upload: Upload, action: str) -> None:
    complete(stack, action, upload)

    require_success(upload)

    merged = [entry for entry in stack.cos.journal("CompleteMultipartUpload", key=upload.key) if entry["status"] == 200]
    assert len(merged) <= 1
    assert len(stack.cos.journal("HeadObject", key=upload.key)) >= 1


@pytest.mark.promise(12, 13, 20)
def test_b57_an_outage_that_opens_the_breaker_ends_no_task_that_completes(stack: Stack, upload: Upload) -> None:
    """The client does nothing but repeat its complete; nobody ever sees the task in error."""
    seen: set[tuple[int, str]] = set()

    def asked() -> str:
        answer = upload.caller.control(upload.id, "complete")
        seen.add((answer.status_code, answer.json()["state"]))
        return str(answer.json()["state"])

    stack.cos.program.kill()
    try:
        wait_until(lambda: bool(asked()) and metric(stack, BREAKER) == 1, "the breaker", 30)
    finally:
        stack.cos.start()

    assert seen == {(202, "completing")}
    wait_until(lambda: asked() == "success", "the success", 15)
    assert seen == {(202, "completing"), (200, "success")}
    assert good(upload.caller.control(upload.id, "complete"))["result"]["crc64_verified"]
    assert stack.cos.read(upload.key) == upload.data


@pytest.mark.promise(12)
def test_b75_an_upload_that_is_gone_because_it_became_our_object_is_a_success(stack: Stack, upload: Upload) -> None:
    complete(stack, "lost_answer", upload, times=1)
    complete(stack, "error", upload, status=404, code="NoSuchUpload", times=None)

    require_success(upload)


def abort(stack: Stack, upload: Upload) -> None:
    """As a lifecycle rule, or somebody else with the right to, ends uploads."""
    keys = (LocalCos.SECRET_ID, LocalCos.SECRET_KEY, None)
    operator = caller_at(stack.cos.port, LocalCos.BUCKET, LocalCos.REGION, *keys)
    upload_id = upload.caller.task(upload.id)["upload_id"]
    assert operator.call("DELETE", upload.key, {"uploadId": upload_id}).status == 204


@pytest.mark.promise(13)
def test_b76_an_upload_that_someone_aborted_is_lost_and_a_restart_begins_anew(stack: Stack, upload: Upload) -> None:
    failed = 'gateway_task_transitions_total{door="rest",event="Failed",state="error"}'
    before = metric(stack, failed)
    with upload.watch() as progress:
        abort(stack, upload)

        document = require_problem(upload.caller.control(upload.id, "complete"), 410, "upload_lost")

        assert not document["retryable"]
        task = upload.caller.task(upload.id)
        assert (task["state"], task["error"]["code"]) == ("error", "upload_lost")
        assert metric(stack, failed) == before + 1
        with pytest.raises(FileNotFoundError):
            stack.cos.read(upload.key)
        assert good(upload.caller.control(upload.id, "restart"))["loaded"] == 0
        told = next(message for message in map(json.loads, progress) if message["type"] == "part_lost")
        assert told["task"]["loaded"] == 0
    upload.finish()


@pytest.mark.promise(8, 15)
def test_b77_an_upload_that_is_gone_beside_somebody_elses_object_is_never_a_success(
    stack: Stack, upload: Upload
) -> None:
    theirs = body("theirs", len(upload.data))
    good(upload.caller.post_form(upload.key, theirs), 201)
    abort(stack, upload)

    require_problem(upload.caller.control(upload.id, "complete"), 409, "object_conflict")

    assert state_of(upload) == "error"
    assert stack.cos.read(upload.key) == theirs


@pytest.mark.parametrize("code", ["InvalidPart", "InvalidPartOrder", "EntityTooSmall"])
@pytest.mark.promise(13)
def test_b78_a_list_that_cos_refuses_is_no_success_and_the_upload_can_be_finished(
    stack: Stack, upload: Upload, code: str
) -> None:
    complete(stack, "error", upload, status=400, code=code, times=None)

    refused = upload.caller.control(upload.id, "complete")

    assert refused.status_code in (400, 409)
    assert refused.json()["code"] in ("parts_missing", "part_size_mismatch")
    assert state_of(upload) in ("error", "uploading")
    stack.cos.clear_faults()
    good(upload.caller.control(upload.id, "restart"))
    upload.finish()


@pytest.mark.promise(15)
def test_b79_an_object_that_appears_meanwhile_is_not_overwritten_where_that_is_forbidden(
    stack: Stack, alice: Caller
) -> None:
    key, ours, theirs = "b79/kept.bin", body("ours", 2 * MIB), body("theirs", 100)
    task_id = alice.create(key, len(ours), part_size=MIB, forbid_overwrite=True)["id"]
    for number in (1, 2):
        good(alice.put_part(task_id, number, ours[(number - 1) * MIB : number * MIB]))
    good(alice.post_form(key, theirs), 201)

    require_problem(alice.control(task_id, "complete"), 409, "object_exists")

    assert alice.task(task_id)["state"] == "error"
    assert stack.cos.read(key) == theirs


@pytest.mark.promise(16, 17)
def test_b85_an_abort_is_repeated_until_cos_knows_the_upload_no_more(stack: Stack, upload: Upload) -> None:
    stack.cos.fault("ignored", operation="AbortMultipartUpload", key=upload.key, times=2)

    assert good(upload.caller.control(upload.id, "cancel"))["state"] == "canceled"

    wait_until(lambda: not stack.cos.open_uploads(upload.key), "the abort", 10)
    wait_until(lambda: stack.cos.journal("ListParts", key=upload.key)[-1]["code"] == "NoSuchUpload", "the end", 10)
    assert len(stack.cos.journal("AbortMultipartUpload", key=upload.key)) == 3
    require_problem(upload.put(1), 409, "task_canceled")


@pytest.mark.promise(16)
def test_b85_a_part_that_arrives_after_the_cancel_brings_nothing_back(stack: Stack, alice: Caller) -> None:
    upload = Upload(alice, stack, "b85/late.bin")
    stack.cos.fault("delay", operation="UploadPart", key=upload.key, seconds=1)
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(upload.put, 1)
        wait_until(lambda: bool(upload.attempts()), "the part", 5)
        began = time.monotonic()
        assert good(alice.control(upload.id, "cancel"))["state"] == "canceled"
        assert late.result().status_code == 409

    assert time.monotonic() - began < 10
    assert state_of(upload) == "canceled"
    codes = [entry["code"] for entry in stack.cos.journal("ListParts", key=upload.key)]
    assert codes[-1] == "NoSuchUpload"
