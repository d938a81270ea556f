"""Every failure that a client can act on, with its public code.

``code`` is API: clients branch on it and ``openapi/openapi.yaml`` lists it. ``status_hint`` is read by the
doors only. ``retryable`` is a promise: the same request, sent again once the cause has passed, can succeed.

GatewayError
├── BadInput            the request itself is wrong; sending it again cannot help
├── NotAllowed          the caller may not do this, or must say who they are
├── Conflict            the request is fine, the state of the task or object is not
├── Busy                a limit of ours is reached; later it is not
└── Storage             COS or Redis failed, refused or answered nonsense
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class CosAnswer:
    """What COS said when it failed: HTTP status, its error code and its request id (empty when it gave none)."""

    status: int
    code: str
    request_id: str


class GatewayError(Exception):
    """A failure that the gateway expects and that a client can act on.

    Args:
        detail: one sentence: what was expected and what came. Never holds the caller's own strings.
        retry_after_seconds: when to come back, if that is known.
        cos: COS's own answer, if COS caused this.
        facts: further members of the problem document (numbers and ids of ours only).
    """

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    status_hint: ClassVar[int] = 500
    retryable: ClassVar[bool] = True

    def __init__(
        self,
        detail: str = "",
        *,
        retry_after_seconds: float | None = None,
        cos: CosAnswer | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds
        self.cos = cos
        self.facts: Mapping[str, Any] = facts


class BadInput(GatewayError):
    code, title, status_hint, retryable = "bad_request", "Bad request", 400, False


class NotAllowed(GatewayError):
    code, title, status_hint, retryable = "forbidden", "Not allowed", 403, False


class Conflict(GatewayError):
    code, title, status_hint, retryable = "illegal_transition", "Not possible in this state", 409, False


class Busy(GatewayError):
    code, title, status_hint, retryable = "overloaded", "The gateway is busy", 503, True


class Storage(GatewayError):
    code, title, status_hint, retryable = "storage_unavailable", "The store is unavailable", 503, True


# --- the request is wrong -----------------------------------------------------------------------------------------


class BadFraming(BadInput):
    code, title = "bad_framing", "Ambiguous message framing"


class BadHost(BadInput):
    code, title = "bad_host", "Unknown Host"


class BadRequestTarget(BadInput):
    code, title = "bad_request_target", "Bad request target"


class UriTooLong(BadInput):
    code, title, status_hint = "uri_too_long", "Request target too long", 414


class HeaderTooLarge(BadInput):
    code, title, status_hint = "header_too_large", "Headers too large", 431


class MethodNotAllowed(BadInput):
    code, title, status_hint = "method_not_allowed", "Method not allowed", 405


class UpgradeNotSupported(BadInput):
    code, title = "upgrade_not_supported", "Upgrade not supported here"


class ExpectationFailed(BadInput):
    code, title, status_hint = "expectation_failed", "Unknown expectation", 417


class UnsupportedMediaType(BadInput):
    code, title, status_hint = "unsupported_media_type", "Unsupported media type", 415


class TypeMismatch(BadInput):
    code, title, status_hint = "type_mismatch", "The content is of another type", 415


class ContentEncodingUnsupported(BadInput):
    code, title, status_hint = "content_encoding_unsupported", "Content-Encoding is not supported here", 415


class TypeNotAllowed(NotAllowed):
    code, title = "type_not_allowed", "This content type is not allowed"


class LengthRequired(BadInput):
    code, title, status_hint = "length_required", "Content-Length required", 411


class BodyTooLarge(BadInput):
    code, title, status_hint = "body_too_large", "Body too large", 413


class FieldTooLarge(BadInput):
    code, title, status_hint = "field_too_large", "Form field too large", 413


class PartTooLarge(BadInput):
    code, title, status_hint = "part_too_large", "Part too large", 413


class FileTooLarge(BadInput):
    code, title, status_hint = "file_too_large", "File too large", 413


class BadJson(BadInput):
    code, title = "bad_json", "Malformed JSON"


class UnknownField(BadInput):
    code, title = "unknown_field", "Unknown member"


class InvalidField(BadInput):
    code, title = "invalid_field", "Invalid value"


class BadQuery(BadInput):
    code, title = "bad_query", "Bad query"


class InvalidPartNumber(BadInput):
    code, title = "invalid_part_number", "Invalid part number"


class PartSizeMismatch(BadInput):
    code, title = "part_size_mismatch", "Wrong part size"


class InvalidSize(BadInput):
    code, title = "invalid_size", "Invalid size"


class InvalidRange(BadInput):
    code, title = "invalid_range", "Invalid Content-Range"


class InvalidKey(BadInput):
    code, title = "invalid_key", "Invalid key"


class InvalidMetadata(BadInput):
    code, title = "invalid_metadata", "Invalid metadata"


class UnknownDestination(BadInput):
    code, title = "unknown_destination", "Unknown bucket or region"


class BadDigest(BadInput):
    code, title = "bad_digest", "Malformed or unknown digest"


class DigestMismatch(BadInput):
    """The bytes that came are not the bytes that were meant: sending them again can succeed."""

    code, title, retryable = "digest_mismatch", "The body does not match its digest", True


class BodyIncomplete(BadInput):
    """The body ended before its declared end; what was not acknowledged must be sent again."""

    code, title, retryable = "body_incomplete", "The body ended early", True


class BodyTimeout(BadInput):
    code, title, status_hint, retryable = "body_timeout", "The body came to a halt", 408, True


class BodyTooSlow(BadInput):
    code, title, status_hint, retryable = "body_too_slow", "The body came too slowly", 408, True


class HeadTimeout(BadInput):
    code, title, status_hint, retryable = "head_timeout", "The request's head did not come in time", 408, True


class MalformedForm(BadInput):
    code, title = "malformed_multipart", "Malformed form data"


class FormTruncated(BadInput):
    code, title, retryable = "multipart_truncated", "The form ended early", True


class TooManyFields(BadInput):
    code, title = "too_many_parts", "Too many form fields"


class FileMissing(BadInput):
    code, title = "file_missing", "No file was chosen"


class FieldOrder(BadInput):
    code, title = "field_order", "The file must be the last form field"


class TicketInvalid(BadInput):
    code, title = "ticket_invalid", "Invalid ticket"


# --- the caller may not -------------------------------------------------------------------------------------------


class Unauthenticated(NotAllowed):
    code, title, status_hint = "unauthenticated", "A bearer token is required", 401


class TokenInvalid(NotAllowed):
    code, title, status_hint = "token_invalid", "Invalid token", 401


class TokenExpired(NotAllowed):
    code, title, status_hint = "token_expired", "Expired token", 401


class Forbidden(NotAllowed):
    code, title = "forbidden", "The token does not allow this action"


class KeyNotAllowed(NotAllowed):
    code, title = "key_not_allowed", "The token does not allow this key"


class OptionNotAllowed(NotAllowed):
    code, title = "option_not_allowed", "The token or the bucket does not allow this option"


class QuotaExceeded(NotAllowed):
    """Finishing or canceling other tasks makes room."""

    code, title = "quota_exceeded", "Too many unfinished tasks"


class OriginNotAllowed(NotAllowed):
    code, title = "origin_not_allowed", "This origin is not allowed"


class TaskNotFound(NotAllowed):
    code, title, status_hint = "task_not_found", "No such task", 404


class BatchNotFound(NotAllowed):
    code, title, status_hint = "batch_not_found", "No such batch", 404


class NotFound(NotAllowed):
    code, title, status_hint = "not_found", "Nothing here", 404


class ObjectNotFound(NotAllowed):
    code, title, status_hint = "object_not_found", "No such object", 404


# --- the state forbids it -----------------------------------------------------------------------------------------


class IllegalTransition(Conflict):
    code, title = "illegal_transition", "Not possible in this state"


class TaskMode(Conflict):
    code, title = "task_mode", "The task takes its bytes the other way"


class TaskPaused(Conflict):
    """Retryable: a restart makes the same request good."""

    code, title, retryable = "task_paused", "The task is paused", True


class TaskInError(Conflict):
    """Retryable: a restart makes the same request good."""

    code, title, retryable = "task_error", "The task has failed; restart it", True


class TaskCanceled(Conflict):
    code, title = "task_canceled", "The task was canceled"


class TaskSucceeded(Conflict):
    code, title = "task_succeeded", "The task has already succeeded"


class TaskCompleting(Conflict):
    code, title, retryable = "task_completing", "The task is completing", True


class TaskExpired(Conflict):
    code, title, status_hint = "task_expired", "The task has expired", 410


class PartsMissing(Conflict):
    code, title = "parts_missing", "Parts are missing"


class PartInProgress(Conflict):
    code, title, retryable = "part_in_progress", "Another body for this part won", True


class OffsetMismatch(Conflict):
    """Retryable from ``next_offset``, which the problem document carries."""

    code, title, retryable = "offset_mismatch", "Wrong offset", True


class BodySuperseded(Conflict):
    code, title = "body_superseded", "A newer body took over"


class VersionMismatch(Conflict):
    code, title, status_hint = "version_mismatch", "The task has changed", 412


class PreconditionFailed(Conflict):
    code, title, status_hint = "precondition_failed", "Precondition failed", 412


class IdempotencyConflict(Conflict):
    code, title, status_hint = "idempotency_conflict", "The Idempotency-Key was used for another request", 422


class UploadLost(Conflict):
    """COS no longer knows the upload: a restart begins a new one."""

    code, title, status_hint = "upload_lost", "COS no longer knows the upload", 410


class ObjectConflict(Conflict):
    code, title = "object_conflict", "Another object stands at this key"


class ObjectExists(Conflict):
    """``may_be_ours``: an attempt before the refused one may have stored it, and its answer was lost."""

    code, title = "object_exists", "An object exists at this key"
    may_be_ours = False


class AppendPosition(Conflict):
    code, title = "append_position", "Wrong append position"


class ObjectNotAppendable(Conflict):
    code, title = "object_not_appendable", "The object cannot be appended to"


# --- a limit of ours ----------------------------------------------------------------------------------------------


class Overloaded(Busy):
    code, title = "overloaded", "The gateway is busy"


class Draining(Busy):
    code, title = "server_draining", "This server is shutting down"


class TaskWaiting(Busy):
    code, title, status_hint = "task_waiting", "The batch has no free slot", 429


class RateLimited(Busy):
    code, title, status_hint = "rate_limited", "Too many requests", 429


class TooManyUploads(Busy):
    code, title, status_hint = "too_many_uploads", "Too many uploads", 429


# --- COS or Redis -------------------------------------------------------------------------------------------------


class StorageUnavailable(Storage):
    code, title = "storage_unavailable", "COS is unavailable"


class StorageSlowDown(Storage):
    code, title = "storage_slow_down", "COS asks to slow down"


class StorageIntegrity(Storage):
    """COS acknowledged other bytes than were sent to it, more than once."""

    code, title, status_hint = "storage_integrity", "COS stored other bytes than were sent", 502


class IntegrityFailed(Storage):
    """The finished object is not the file: its length or CRC-64 differ. A restart begins a new upload."""

    code, title, status_hint, retryable = "integrity_failed", "The finished object is not the file", 502, False


class StorageDenied(Storage):
    code, title, status_hint, retryable = "storage_denied", "COS denies the gateway access", 502, False


class StorageRefused(Storage):
    """COS refused a request that the gateway held for good."""

    code, title, status_hint, retryable = "storage_refused", "COS refused the request", 502, False


class StorageAddressRefused(Storage):
    """COS's name leads to addresses where COS must not be: nothing was sent there."""

    code, title, status_hint, retryable = "storage_address_refused", "COS's address is not allowed", 502, False


class StorageUntrusted(Storage):
    """Whoever answered could not prove to be COS: nothing was sent to them."""

    code, title, status_hint, retryable = "storage_untrusted", "COS's certificate is not trusted", 502, False


class StorageBadAnswer(Storage):
    code, title, status_hint = "storage_bad_answer", "COS's answer cannot be read", 502


class CredentialsUnavailable(Storage):
    code, title = "credentials_unavailable", "No valid COS credentials"


class StateStoreUnavailable(Storage):
    code, title = "state_store_unavailable", "Redis is unavailable"


@cache
def all_codes() -> dict[str, type[GatewayError]]:
    """Every registered code and the class that stands for it; of a group and its member, the member."""
    found: dict[str, type[GatewayError]] = {}
    classes = [GatewayError]
    while classes:
        cls = classes.pop(0)
        found[cls.code] = cls
        classes.extend(cls.__subclasses__())
    return found
