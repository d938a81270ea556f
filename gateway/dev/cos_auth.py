"""Who sent it: the local COS checks every signature as strictly as COS documents it (436/7778 and 436/14690)."""

import hmac
from collections.abc import Iterable, Mapping
from typing import Final

from gateway.cos.signing import (
    BadSignature,
    Credentials,
    MalformedSignature,
    ParsedAuthorization,
    SignatureExpired,
    SignatureMismatch,
    parse_authorization,
    parse_query,
    verify,
    verify_policy,
)
from gateway.dev.cos_answers import Refusal
from gateway.dev.cos_calls import Call

_TOKEN: Final = "x-cos-security-token"  # noqa: S105 -- a header's name


class KeyRing:
    """The key pairs that the local COS knows, lasting and temporary ones."""

    def __init__(self, keys: Iterable[Credentials]) -> None:
        self._keys = {key.secret_id: key for key in keys}

    def check(self, call: Call) -> None:
        """Verify the signature in *call*'s Authorization header or, presigned, in its query.

        Raises:
            Refusal: AccessDenied, InvalidAccessKeyId, ExpiredToken, RequestTimeTooSkewed or SignatureDoesNotMatch.
        """
        try:
            parsed = _parsed(call)
            credentials = self._credentials(
                parsed.secret_id, call.headers.get(_TOKEN) or call.query.get(_TOKEN), call.now
            )
            verify(parsed, credentials.secret_key, call.method, call.path, call.query, call.headers, now=call.now)
        except BadSignature as exc:
            raise _refusal(exc) from exc

    def check_form_signature(self, call: Call, fields: Mapping[str, str]) -> None:
        """Verify the wx SDK's form: a field ``Signature``, signed as a POST to ``/`` without a policy.

        What it signed as headers travels as headers, as fields, or as both; ``x-cos-acl`` as the field ``acl``.
        """
        lowered = {name.lower(): value for name, value in fields.items()}
        as_headers = {**lowered, "x-cos-acl": lowered.get("acl", ""), **call.headers}
        try:
            parsed = parse_authorization(fields["signature"])
            credentials = self._credentials(parsed.secret_id, as_headers.get(_TOKEN), call.now)
            verify(parsed, credentials.secret_key, "POST", "/", call.query, as_headers, now=call.now)
        except BadSignature as exc:
            raise _refusal(exc) from exc

    def check_policy_signature(self, fields: Mapping[str, str], policy_text: str, now: float) -> None:
        """Verify the signature of a POST Object's policy; its conditions are not looked at."""
        credentials = self._credentials(fields.get("q-ak", ""), fields.get(_TOKEN), now)
        key_time, signature = fields.get("q-key-time", ""), fields.get("q-signature", "")
        try:
            if fields.get("q-sign-algorithm") != "sha1":
                raise MalformedSignature("q-sign-algorithm is not sha1")
            verify_policy(credentials.secret_key, key_time, policy_text, signature, now=now)
        except BadSignature as exc:
            raise _refusal(exc) from exc

    def _credentials(self, secret_id: str, token: str | None, now: float) -> Credentials:
        """The key pair of *secret_id*. A temporary one is only known together with its session token."""
        found = self._keys.get(secret_id)
        if found is None:
            raise Refusal("InvalidAccessKeyId", "The Access Key Id you provided does not exist in our records.")
        if found.session_token is None:
            return found
        if token is None:
            raise Refusal("AccessDenied", "A temporary key needs its x-cos-security-token.")
        if not hmac.compare_digest(_bytes(token), _bytes(found.session_token)):
            raise Refusal("AccessDenied", "The x-cos-security-token is not this key's.")
        if found.expires_at is not None and now >= found.expires_at:
            raise Refusal("ExpiredToken", "The provided token has expired.")
        return found


def _parsed(call: Call) -> ParsedAuthorization:
    if text := call.headers.get("authorization"):
        return parse_authorization(text)
    if "q-signature" in call.query:
        return parse_query(call.query)
    raise Refusal("AccessDenied", "Access Denied.")


def _refusal(failure: BadSignature) -> Refusal:
    match failure:
        case SignatureMismatch(http_string=http_string, string_to_sign=string_to_sign):
            details = (("StringToSign", string_to_sign), ("FormatString", http_string))
            message = "The Signature you specified is invalid."
            return Refusal("SignatureDoesNotMatch", message, details=details)
        case SignatureExpired(start=start, now=now) if now < start:
            return Refusal("RequestTimeTooSkewed", "The signature's time has not come yet.")
        case SignatureExpired():
            # The SDKs look for exactly this text before they correct their clocks.
            return Refusal("AccessDenied", "Request has expired")
        case MalformedSignature(problem=problem):
            return Refusal("InvalidArgument", f"The signature cannot be read: {problem}.")
    return Refusal("AccessDenied", "Access Denied.")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
