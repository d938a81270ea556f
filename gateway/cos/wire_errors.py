"""What COS's refusals mean to us. Pure: one table from COS's codes, one from HTTP's statuses.

Source: COS documentation 436/7730.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.cos.xml_tree import Unreadable, read_xml
from gateway.domain import errors
from gateway.domain.errors import CosAnswer, GatewayError

_SHOWABLE: Final = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,127}")
_EXPIRED: Final = "Request has expired"

_BY_CODE: Final[Mapping[str, type[GatewayError]]] = {
    "NoSuchUpload": errors.UploadLost,
    "NoSuchKey": errors.ObjectNotFound,
    "NoSuchVersion": errors.ObjectNotFound,
    "BadDigest": errors.DigestMismatch,
    "InvalidDigest": errors.BadDigest,
    "InvalidPart": errors.PartsMissing,
    "InvalidPartOrder": errors.PartsMissing,
    "EntityTooSmall": errors.PartSizeMismatch,
    "EntityTooLarge": errors.FileTooLarge,
    "AppendPositionErr": errors.AppendPosition,
    "ObjectNotAppendable": errors.ObjectNotAppendable,
    "PreconditionFailed": errors.ObjectExists,  # the gateway's only condition is x-cos-forbid-overwrite
    "FileAlreadyExists": errors.ObjectExists,
    "ObjectAlreadyExists": errors.ObjectExists,
    "ObjectLocked": errors.ObjectConflict,
    "PathConflict": errors.ObjectConflict,
    "UploadConflict": errors.StorageUnavailable,  # COS is merging the upload
    "SlowDown": errors.StorageSlowDown,
    "KmsFreqControl": errors.StorageSlowDown,
    "RequestTimeout": errors.StorageUnavailable,
    "UserNetworkTooSlow": errors.StorageUnavailable,
    "IncompleteBody": errors.StorageUnavailable,
    "InternalError": errors.StorageUnavailable,
    "AccessDenied": errors.StorageDenied,
    "AccessForbidden": errors.StorageDenied,
    "InvalidAccessKeyId": errors.StorageDenied,
    "SignatureDoesNotMatch": errors.StorageDenied,
    "RequestTimeTooSkewed": errors.StorageDenied,
    _EXPIRED: errors.StorageDenied,
    "NoSuchBucket": errors.StorageDenied,
    "PaymentRequired": errors.StorageDenied,
    "ExpiredToken": errors.CredentialsUnavailable,
    "NotImplemented": errors.StorageRefused,
}

_BY_STATUS: Final[Mapping[int, type[GatewayError]]] = {
    200: errors.StorageUnavailable,  # Complete's error inside a 200: it may have merged or not
    402: errors.StorageDenied,
    403: errors.StorageDenied,
    404: errors.ObjectNotFound,
    408: errors.StorageUnavailable,
    412: errors.ObjectExists,
    429: errors.StorageSlowDown,
    501: errors.StorageRefused,
    503: errors.StorageSlowDown,
}


@dataclass(frozen=True, slots=True)
class CosRefusal:
    """An answer of COS that is no success. ``code`` is empty where COS gave none, as for HEAD."""

    status: int
    code: str
    request_id: str
    message: str
    retry_after_seconds: float | None

    @property
    def may_be_clock_skew(self) -> bool:
        """Whether our clock may be off: COS says so, or cannot say why it denies (HEAD)."""
        if self.code in ("RequestTimeTooSkewed", _EXPIRED):
            return True
        return self.status == 403 and (not self.code or (self.code == "AccessDenied" and self.message == _EXPIRED))

    @property
    def is_expired_token(self) -> bool:
        """Whether the session token has run out."""
        return self.code == "ExpiredToken"

    @property
    def may_be_old_keys(self) -> bool:
        """Whether other keys might be taken: these have run out, were replaced, or COS cannot say (HEAD)."""
        if self.code in ("ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"):
            return True
        return not self.code and self.status in (400, 403)

    def error(self) -> GatewayError:
        """The refusal in our words."""
        kind = _BY_CODE.get(self.code) or _BY_STATUS.get(self.status) or _by_class(self.status)
        if self.status == 400 and not self.code:  # a server before COS, or a request that broke on its way there
            kind = errors.StorageBadAnswer
        said = f"COS answered {self.status} {self.code}".rstrip()
        if 300 <= self.status < 400:
            said += ": the bucket's region in GATEWAY_BUCKETS, or GATEWAY_COS_ENDPOINT, is wrong"
        if kind is errors.UploadLost:
            said += ": somebody may have canceled the upload; a restart sends everything again"
        return kind(
            said,
            retry_after_seconds=self.retry_after_seconds,
            cos=CosAnswer(self.status, self.code, self.request_id),
        )


def read_refusal(status: int, headers: Mapping[str, str], body: bytes) -> CosRefusal:
    """Read an answer that is no success, as far as it can be read. Header names are lower case."""
    code = message = ""
    try:
        tree = read_xml(body)
    except Unreadable:
        pass
    else:
        if tree.name == "Error":
            code, message = tree.text_of("Code") or "", tree.text_of("Message") or ""
    return CosRefusal(
        status,
        showable(code),
        showable(headers.get("x-cos-request-id", "")),
        message,
        _retry_after_seconds(headers.get("retry-after", "")),
    )


def code_of(error: GatewayError) -> str:
    """What *error* is counted under: COS's own code where that is a documented one, else ours."""
    return error.cos.code if error.cos is not None and error.cos.code in _BY_CODE else error.code


def _by_class(status: int) -> type[GatewayError]:
    if status >= 500:
        return errors.StorageUnavailable
    # A redirect is never followed: it would let the answer choose where bytes and signatures go.
    return errors.StorageRefused if status >= 300 else errors.StorageBadAnswer


def showable(text: str) -> str:
    """COS's codes and ids reach logs and problem documents; anything that does not look like one is dropped."""
    return text if _SHOWABLE.fullmatch(text) else ""


def _retry_after_seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None
