"""COS's codes and statuses in our words."""

import pytest

from gateway.cos.wire_errors import read_refusal
from gateway.domain import errors


def xml(code: str, message: str = "") -> bytes:
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return b"<?xml version='1.0' encoding='utf-8' ?>" + error.encode()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchUpload", errors.UploadLost),
        (404, "NoSuchKey", errors.ObjectNotFound),
        (404, "NoSuchBucket", errors.StorageDenied),
        (404, "", errors.ObjectNotFound),
        (400, "BadDigest", errors.DigestMismatch),
        (400, "InvalidPart", errors.PartsMissing),
        (400, "InvalidPartOrder", errors.PartsMissing),
        (400, "EntityTooSmall", errors.PartSizeMismatch),
        (400, "KeyTooLong", errors.StorageRefused),
        (400, "RequestTimeout", errors.StorageUnavailable),
        (400, "ExpiredToken", errors.CredentialsUnavailable),
        (403, "AccessDenied", errors.StorageDenied),
        (403, "SignatureDoesNotMatch", errors.StorageDenied),
        (403, "InvalidAccessKeyId", errors.StorageDenied),
        (403, "", errors.StorageDenied),
        (409, "AppendPositionErr", errors.AppendPosition),
        (409, "ObjectNotAppendable", errors.ObjectNotAppendable),
        (409, "FileAlreadyExists", errors.ObjectExists),
        (412, "PreconditionFailed", errors.ObjectExists),
        (412, "", errors.ObjectExists),
        (429, "", errors.StorageSlowDown),
        (451, "DomainAuditFailed", errors.StorageRefused),
        (500, "InternalError", errors.StorageUnavailable),
        (501, "NotImplemented", errors.StorageRefused),
        (502, "", errors.StorageUnavailable),
        (503, "SlowDown", errors.StorageSlowDown),
        (503, "ServiceUnavailable", errors.StorageSlowDown),
        (302, "", errors.StorageRefused),
        (200, "InternalError", errors.StorageUnavailable),
        (200, "SomethingNew", errors.StorageUnavailable),
        (200, "NoSuchUpload", errors.UploadLost),
    ],
)
def test_every_refusal_has_its_meaning(status: int, code: str, kind: type[errors.GatewayError]) -> None:
    body = xml(code) if code else b""

    error = read_refusal(status, {"x-cos-request-id": "NjA="}, body).error()

    assert type(error) is kind
    assert error.cos == errors.CosAnswer(status, code, "NjA=")


def test_a_bad_request_without_a_code_is_no_word_of_coss_and_worth_another_try() -> None:
    error = read_refusal(400, {}, b"Invalid HTTP request received.").error()

    assert isinstance(error, errors.StorageBadAnswer)
    assert error.retryable


def test_a_refusal_that_cannot_be_read_still_has_its_status() -> None:
    for body in (b"<html>nginx", b"<!DOCTYPE a><Error/>", b"<Other><Code>NoSuchUpload</Code></Other>", b"\xff" * 99):
        refusal = read_refusal(503, {}, body)

        assert (refusal.code, type(refusal.error())) == ("", errors.StorageSlowDown)


@pytest.mark.parametrize(
    ("status", "code", "message", "expected"),
    [
        (403, "RequestTimeTooSkewed", "", True),
        (403, "AccessDenied", "Request has expired", True),
        (403, "Request has expired", "", True),
        (403, "AccessDenied", "Access Denied.", False),
        (403, "SignatureDoesNotMatch", "", False),
        (403, "", "", True),
        (404, "", "", False),
    ],
)
def test_a_clock_may_be_wrong_where_cos_says_so_or_nothing(
    status: int, code: str, message: str, expected: bool
) -> None:
    assert read_refusal(status, {}, xml(code, message) if code else b"").may_be_clock_skew is expected


@pytest.mark.parametrize(("text", "seconds"), [("3", 3.0), ("", None), ("-1", None), ("soon", None), ("9" * 9, None)])
def test_retry_after_is_whole_seconds_or_nothing(text: str, seconds: float | None) -> None:
    assert read_refusal(503, {"retry-after": text}, b"").error().retry_after_seconds == seconds


def test_codes_and_ids_that_could_hurt_a_log_are_dropped() -> None:
    refusal = read_refusal(400, {"x-cos-request-id": "a\x1b[31m"}, xml("A" * 500))

    assert (refusal.code, refusal.request_id) == ("", "")
