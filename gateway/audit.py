"""Who did what: the audit trail, one line an event by the logger ``gateway.audit``.

Callers and tokens are pseudonyms (``domain.pseudonyms``), everything else is an id of ours: no name of a caller's.
"""

import logging
from enum import StrEnum
from typing import Final

from gateway.domain.errors import GatewayError, NotAllowed, QuotaExceeded, RateLimited, TooManyUploads
from gateway.domain.policy import Caller
from gateway.telemetry import CODE, DOOR, SUBJECT, TOKEN
from gateway.tracing import heed

_log: Final = logging.getLogger("gateway.audit")
_LIMITS: Final = (QuotaExceeded, RateLimited, TooManyUploads)
_DENIED: Final = frozenset({401, 403})


class AuditEvent(StrEnum):
    """What is written down. ``DENIED``: a token, key or signature was refused, or did not allow what was asked."""

    CREATE = "create"
    COMPLETE = "complete"
    CANCEL = "cancel"
    APPEND = "append"
    KEY_ISSUED = "key_issued"
    DENIED = "denied"
    REVOKED = "revoked"
    LIMIT = "limit"


def audit(event: AuditEvent, **ids: str | float) -> None:
    """Write down *event* with *ids*; the line has the request's id and whoever asks besides."""
    _log.info(event.value, extra={"door": DOOR.get(), **ids})


def audit_refusal(error: GatewayError) -> None:
    """Write down *error* if it says that somebody may not, or may not as often."""
    if isinstance(error, _LIMITS):
        audit(AuditEvent.LIMIT, code=error.code)
    elif isinstance(error, NotAllowed) and error.status_hint in _DENIED:
        audit(AuditEvent.DENIED, code=error.code)


def note_refusal(error: GatewayError) -> None:
    """*error* is the request's answer: its code is for the request's line, and perhaps for the audit trail."""
    CODE.set(error.code)
    audit_refusal(error)


def note_door_refusal(code: str, status: int) -> None:
    """The same for a refusal that only the COS door knows, with COS's *code*."""
    CODE.set(code)
    if status in _DENIED:
        audit(AuditEvent.DENIED, code=code)


def note_caller(caller: Caller) -> None:
    """The request is *caller*'s, as a good signature has shown: every line of it says so from now on.

    Their wish to have it traced counts from now on, too.
    """
    SUBJECT.set(caller.subject)
    TOKEN.set(caller.token)
    heed()
