"""Every failure in COS's words: one table from our codes to COS's, one from COS's codes to HTTP's statuses.

Source: COS documentation 436/7730. Nothing of the caller's is in a message.
"""

from collections.abc import Mapping
from math import ceil
from typing import Final

from gateway.domain.errors import Busy, GatewayError, PartsMissing, Storage, StorageDenied

STATUSES: Final[Mapping[str, int]] = {
    "AccessDenied": 403,
    "AppendPositionErr": 409,
    "BadDigest": 400,
    "EntityTooLarge": 400,
    "EntityTooSmall": 400,
    "ExpiredToken": 400,
    "FileAlreadyExists": 409,
    "IncompleteBody": 400,
    "IncorrectNumberOfFilesInPostRequest": 400,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidArgument": 400,
    "InvalidDigest": 400,
    "InvalidObjectName": 400,
    "InvalidPart": 400,
    "InvalidPartOrder": 400,
    "InvalidPolicyDocument": 400,
    "InvalidRequest": 400,
    "InvalidURI": 400,
    "KeyTooLong": 400,
    "ListPartUploadIdIsEmpty": 400,
    "MalformedPOSTRequest": 400,
    "MalformedXML": 400,
    "MethodNotAllowed": 405,
    "MissingContentLength": 411,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NoSuchUpload": 404,
    "NotImplemented": 501,
    "NotSupportedStorageClass": 400,
    "ObjectNotAppendable": 409,
    "PreconditionFailed": 412,
    "RequestTimeTooSkewed": 403,
    "RequestTimeout": 400,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
    "UploadConflict": 409,
    "XMLSizeLimit": 400,
}
AUTH_CODES: Final = frozenset(
    {"AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "RequestTimeTooSkewed", "SignatureDoesNotMatch"}
)
"""Their documents tell the server's time, by which SDKs correct their clocks."""

COS_CODES: Final[Mapping[str, str]] = {
    "append_position": "AppendPositionErr",
    "bad_digest": "InvalidDigest",
    "bad_framing": "InvalidRequest",
    "bad_host": "NoSuchBucket",
    "bad_json": "InvalidRequest",
    "bad_query": "InvalidArgument",
    "bad_request": "InvalidRequest",
    "bad_request_target": "InvalidURI",
    "batch_not_found": "NoSuchUpload",
    "body_incomplete": "IncompleteBody",
    "body_superseded": "UploadConflict",
    "body_timeout": "RequestTimeout",
    "body_too_slow": "RequestTimeout",
    "body_too_large": "EntityTooLarge",
    "content_encoding_unsupported": "InvalidArgument",
    "credentials_unavailable": "ServiceUnavailable",
    "digest_mismatch": "BadDigest",
    "expectation_failed": "InvalidRequest",
    "field_order": "MalformedPOSTRequest",
    "file_missing": "MalformedPOSTRequest",
    "field_too_large": "MalformedPOSTRequest",
    "file_too_large": "EntityTooLarge",
    "forbidden": "AccessDenied",
    "head_timeout": "RequestTimeout",
    "header_too_large": "InvalidRequest",
    "idempotency_conflict": "InvalidRequest",
    "illegal_transition": "UploadConflict",
    "integrity_failed": "InternalError",
    "internal": "InternalError",
    "invalid_field": "InvalidArgument",
    "invalid_key": "InvalidObjectName",
    "invalid_metadata": "InvalidArgument",
    "invalid_part_number": "InvalidArgument",
    "invalid_range": "InvalidArgument",
    "invalid_size": "InvalidArgument",
    "key_not_allowed": "AccessDenied",
    "length_required": "MissingContentLength",
    "malformed_multipart": "MalformedPOSTRequest",
    "method_not_allowed": "MethodNotAllowed",
    "multipart_truncated": "IncompleteBody",
    "not_found": "NoSuchKey",
    "object_conflict": "UploadConflict",
    "object_exists": "FileAlreadyExists",
    "object_not_appendable": "ObjectNotAppendable",
    "object_not_found": "NoSuchKey",
    "offset_mismatch": "InvalidArgument",
    "option_not_allowed": "AccessDenied",
    "origin_not_allowed": "AccessDenied",
    "overloaded": "SlowDown",
    "part_in_progress": "ServiceUnavailable",
    "part_size_mismatch": "InvalidArgument",
    "part_too_large": "EntityTooLarge",
    "parts_missing": "InvalidPart",
    "precondition_failed": "PreconditionFailed",
    "quota_exceeded": "AccessDenied",
    "rate_limited": "SlowDown",
    "server_draining": "ServiceUnavailable",
    "state_store_unavailable": "ServiceUnavailable",
    "storage_address_refused": "InvalidRequest",
    "storage_bad_answer": "ServiceUnavailable",
    "storage_denied": "AccessDenied",
    "storage_integrity": "ServiceUnavailable",
    "storage_refused": "InvalidRequest",
    "storage_slow_down": "SlowDown",
    "storage_unavailable": "ServiceUnavailable",
    "storage_untrusted": "InvalidRequest",
    "task_canceled": "NoSuchUpload",
    "task_completing": "UploadConflict",
    "task_error": "ServiceUnavailable",
    "task_expired": "NoSuchUpload",
    "task_mode": "UploadConflict",
    "task_not_found": "NoSuchUpload",
    "task_paused": "ServiceUnavailable",
    "task_succeeded": "NoSuchUpload",
    "task_waiting": "SlowDown",
    "ticket_invalid": "InvalidArgument",
    "token_expired": "ExpiredToken",
    "token_invalid": "AccessDenied",
    "too_many_parts": "MalformedPOSTRequest",
    "too_many_uploads": "SlowDown",
    "type_mismatch": "AccessDenied",
    "type_not_allowed": "AccessDenied",
    "unauthenticated": "AccessDenied",
    "unknown_destination": "NoSuchBucket",
    "unknown_field": "InvalidArgument",
    "unsupported_media_type": "MalformedPOSTRequest",
    "upgrade_not_supported": "InvalidRequest",
    "upload_lost": "NoSuchUpload",
    "uri_too_long": "InvalidURI",
    "version_mismatch": "PreconditionFailed",
}
_RETRY_SECONDS: Final = 1


class CosRefusal(Exception):
    """The request gets one of COS's errors. ``retry_after_seconds`` goes with what may be tried again."""

    def __init__(self, code: str, message: str, *, status: int = 0, retry_after_seconds: float | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status or STATUSES[code]
        self.retry_after_seconds = None if retry_after_seconds is None else max(0, ceil(retry_after_seconds))


def refusal_of(error: GatewayError) -> CosRefusal:
    """*error* as COS would say it: COS's own answer where that is about the request, else by the table.

    What a repetition can cure is a 503 with Retry-After, which every SDK repeats.
    """
    cos = error.cos
    if cos is not None and cos.code and 400 <= cos.status < 500 and not _is_ours_alone(error):
        return CosRefusal(cos.code, error.title, status=cos.status)
    if isinstance(error, PartsMissing) and "expected" in error.facts:
        return CosRefusal("EntityTooSmall", error.detail)
    code = COS_CODES.get(error.code, "InternalError")
    retry_after = error.retry_after_seconds
    if retry_after is None and (isinstance(error, Busy) or STATUSES[code] == 503):
        retry_after = _RETRY_SECONDS
    return CosRefusal(code, error.detail or error.title, retry_after_seconds=retry_after)


def _is_ours_alone(error: GatewayError) -> bool:
    """Whether what COS refused was the gateway's own: its keys, or a state that it will mend."""
    return isinstance(error, StorageDenied) or (isinstance(error, Storage) and error.retryable)
