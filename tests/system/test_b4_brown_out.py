"""COS fails for ever, asks to slow down, or is slow: it is asked less and clients hear of it early (B4: 57, 58, 86)."""

import time
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final

import httpx
import pytest

from tests.system.processes import wait_until
from tests.system.stack import MIB, Caller, Stack, good, require_problem
from tests.system.upload_under_fault import Upload, metric

DEAD_SECONDS: Final = 30.0
RECOVERY_SECONDS: Final = 5.0
ASK_SECONDS: Final = 0.02
BUCKET: Final = 'bucket="files-1250000000"'
BREAKER: Final = f"gateway_cos_breaker_open{{{BUCKET}}}"
PACE: Final = f"gateway_cos_pace_share{{{BUCKET}}}"


def retry_after(answer: httpx.Response) -> int:
    return int(answer.headers["retry-after"])


@pytest.mark.promise(20, 23)
def test_b57_a_cos_that_fails_for_ever_is_asked_only_now_and_then_and_taken_up_again_when_it_answers(
    stack: Stack, alice: Caller
) -> None:
    upload = Upload(alice, stack, "b57/for-ever.bin")
    stack.cos.fault("error", operation="UploadPart", status=500, code="InternalError", times=None)
    began = time.monotonic()
    while metric(stack, BREAKER) == 0:
        asked = time.monotonic()
        require_problem(upload.put(1), 503, "storage_unavailable")
        assert time.monotonic() - asked < DEAD_SECONDS
        assert time.monotonic() - began < DEAD_SECONDS

    before = len(upload.attempts())
    for _ in range(50):
        refused = upload.put(1)
        assert require_problem(refused, 503, "storage_unavailable")["retryable"]
        assert 1 <= retry_after(refused) <= 5
    assert len(upload.attempts()) - before <= 3
    assert metric(stack, 'gateway_cos_held_back_total{reason="failing"}') >= 45
    assert upload.stored == 0
    stack.cos.clear_faults()
    assert wait_until(lambda: upload.is_taken(1), "COS", 10) < RECOVERY_SECONDS
    upload.finish()


@pytest.mark.promise(23)
def test_b57_attempts_are_at_most_a_fifth_more_than_requests(stack: Stack, alice: Caller) -> None:
    upload = Upload(alice, stack, "b58/budget.bin", parts=1)
    stack.cos.fault("early_error", operation="UploadPart", key=upload.key, status=500, code="", times=None)
    retries = 'gateway_cos_retries_total{operation="upload_part"}'
    before = metric(stack, retries)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: upload.put(1), range(100)))

    assert {answer.status_code for answer in answers} == {503}
    repeated = metric(stack, retries) - before
    assert repeated <= 0.2 * len(answers) + 20  # what a quiet time had saved up
    assert len(upload.attempts()) <= 1.2 * len(answers) + 20


@pytest.mark.promise(21)
def test_b86_behind_a_slow_cos_clients_are_held_back_and_small_calls_stay_quick(stack: Stack, alice: Caller) -> None:
    gateway = stack.start_gateway(replay_budget_bytes=str(32 * MIB), part_size_bytes=str(4 * MIB))
    here = alice.at(gateway)
    uploads = [Upload(here, stack, f"b86/{number}.bin", parts=1, part_size=4 * MIB) for number in range(50)]
    stack.cos.fault("slow", operation="UploadPart", bytes_per_second=MIB, times=None)
    before = gateway.program.rss_bytes
    with ThreadPoolExecutor(len(uploads)) as pool:
        sending = [pool.submit(upload.put, 1) for upload in uploads]
        wait_until(lambda: all(upload.attempts() for upload in uploads), "the parts", 10)
        times = []
        while wait(sending, ASK_SECONDS).not_done:  # as often as a caller may ask, however fast the machine is
            began = time.monotonic()
            here.task(uploads[0].id)
            times.append(time.monotonic() - began)
        assert all(good(put.result()) for put in sending)

    assert len(times) > 10
    assert sorted(times)[len(times) * 9 // 10] < 0.1
    assert gateway.program.peak_bytes - before < (32 + 50) * MIB
    stack.cos.clear_faults()
    uploads[0].finish()


@pytest.mark.promise(21, 23)
def test_b58_a_slow_down_lowers_the_rate_and_clients_are_refused_early(stack: Stack, alice: Caller) -> None:
    uploads = [Upload(alice, stack, f"b58/{number}.bin", parts=1) for number in range(20)]
    stack.cos.fault(
        "early_error", operation="UploadPart", status=503, code="SlowDown", times=None, retry_after_seconds=7
    )
    answers: list[httpx.Response] = []
    end = time.monotonic() + 0.7
    with ThreadPoolExecutor(8) as pool:
        while time.monotonic() < end:
            answers += pool.map(lambda upload: upload.put(1), uploads)

    asked, attempts = len(answers), sum(len(upload.attempts()) for upload in uploads)
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["code"] for answer in answers} == {"storage_slow_down"}
    assert all(1 <= retry_after(answer) <= 10 for answer in answers)
    assert attempts < asked / 2
    assert metric(stack, 'gateway_cos_held_back_total{reason="slow_down"}') > asked / 4
    wait_until(lambda: metric(stack, PACE) < 1, "the pace in the metrics, entered each second", 5)
    stack.cos.clear_faults()
    began = time.monotonic()
    wait_until(lambda: uploads[0].is_taken(1), "COS", 15)
    assert time.monotonic() - began < 10
    uploads[0].finish()
