"""Every failure has a code and a status of COS's."""

import pytest

from gateway.domain import errors
from gateway.domain.errors import CosAnswer, GatewayError, all_codes
from gateway.web.cos_problems import AUTH_CODES, COS_CODES, STATUSES, CosRefusal, refusal_of


def test_every_code_of_ours_has_one_of_cos_s() -> None:
    assert COS_CODES.keys() == all_codes().keys()
    assert set(COS_CODES.values()) <= STATUSES.keys()
    assert STATUSES.keys() >= AUTH_CODES


@pytest.mark.parametrize("kind", all_codes().values(), ids=list(all_codes()))
def test_what_a_repetition_cures_is_a_503_with_retry_after(kind: type[GatewayError]) -> None:
    refusal = refusal_of(kind())

    assert (refusal.status == 503) == (refusal.retry_after_seconds is not None)
    if issubclass(kind, errors.Storage | errors.Busy) and kind.retryable:
        assert refusal.status == 503


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.PartsMissing(missing=[[2, 2]]), 400, "InvalidPart"),
        (errors.PartsMissing(missing=[[2, 2]], expected=1 << 20), 400, "EntityTooSmall"),
        (errors.PartSizeMismatch(cos=CosAnswer(400, "EntityTooSmall", "r")), 400, "EntityTooSmall"),
        (errors.StorageRefused(cos=CosAnswer(451, "DomainAuditFailed", "r")), 451, "DomainAuditFailed"),
        (errors.StorageDenied(cos=CosAnswer(403, "SignatureDoesNotMatch", "r")), 403, "AccessDenied"),
        (errors.StorageUnavailable(cos=CosAnswer(200, "InternalError", "r")), 503, "ServiceUnavailable"),
        (errors.StorageSlowDown(cos=CosAnswer(503, "SlowDown", "r")), 503, "SlowDown"),
        (errors.CredentialsUnavailable(cos=CosAnswer(400, "ExpiredToken", "r")), 503, "ServiceUnavailable"),
        (errors.UploadLost(cos=CosAnswer(404, "NoSuchUpload", "r")), 404, "NoSuchUpload"),
        (errors.TaskPaused(), 503, "ServiceUnavailable"),
        (errors.IntegrityFailed(), 500, "InternalError"),
    ],
)
def test_a_failure_reads_as_cos_would_say_it(error: GatewayError, status: int, code: str) -> None:
    refusal = refusal_of(error)

    assert (refusal.status, refusal.code) == (status, code)


def test_seconds_are_whole_and_not_negative() -> None:
    assert CosRefusal("SlowDown", "", retry_after_seconds=1.2).retry_after_seconds == 2
    assert CosRefusal("SlowDown", "", retry_after_seconds=-1).retry_after_seconds == 0
