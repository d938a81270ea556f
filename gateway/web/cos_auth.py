"""Who signed a request at the COS door, by the keys that the gateway issued, and for which bucket."""

import base64
import binascii
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from gateway.audit import note_caller
from gateway.cos.signing import (
    BadSignature,
    MalformedSignature,
    ParsedAuthorization,
    SignatureExpired,
    SignatureMismatch,
    parse_authorization,
    parse_query,
    verify,
    verify_policy,
)
from gateway.domain.policy import Caller, Destination, Destinations
from gateway.transfer.ports import Clock
from gateway.transfer.recent import Recent
from gateway.web.bad_proofs import BadProofs
from gateway.web.client_address import address_of
from gateway.web.cos_call import Admitted, CosCall, require_key_length, with_path
from gateway.web.cos_keys import KeyExpired, KeyIssuer, KeyUnknown, OpenedKey, is_key_id
from gateway.web.cos_problems import CosRefusal
from gateway.web.cos_signed import TOKEN, require_fields_signed, require_signed

EARLY_SECONDS: Final = 30
"""A clock may be ahead of ours by so much: SDKs correct theirs only beyond it."""

GOOD_SECONDS: Final = 3600.0
"""How long a key that has signed well is heard from an address where bad signatures come from."""
_BAD_PROOFS: Final = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch"})
_HOST: Final = re.compile(r"([a-z0-9-]+)\.cos\.([a-z0-9-]+)\.(?:myqcloud\.com|tencentcos\.cn)")
_PORT: Final = re.compile(r":[0-9]{1,5}\Z")


class CosAuth:
    """Admits requests whose signature holds.

    Args:
        bad_proofs: where signatures that do not hold are counted.
        clock: Unix time in seconds.
    """

    def __init__(
        self, issuer: KeyIssuer, destinations: Destinations, bad_proofs: BadProofs, clock: Clock = time.time
    ) -> None:
        self._issuer = issuer
        self._destinations = destinations
        self._bad_proofs = bad_proofs
        self._good_keys: Recent[str] = Recent(GOOD_SECONDS)
        self._clock = clock

    def admit(self, call: CosCall) -> Admitted:
        """Who signed *call*, in its Authorization header or, presigned, in its query.

        Raises:
            CosRefusal: AccessDenied, InvalidAccessKeyId, ExpiredToken, SignatureDoesNotMatch, NoSuchBucket, …
            RateLimited: too many came from the address whose signatures do not hold.
        """
        with self._counting(call):
            return self._proved(call)

    def _proved(self, call: CosCall) -> Admitted:
        try:
            parsed = _parsed(call)
        except MalformedSignature as malformed:
            raise _refusal(malformed) from malformed
        key = self._open(call, parsed.secret_id, call.headers.get(TOKEN) or call.query.get(TOKEN))
        place = self._place(key.caller, call.host)
        mismatch: CosRefusal | None = None
        for path in _paths(call, place):
            try:
                self._verify(parsed, key, call.method, path, call.query, call.headers)
            except SignatureMismatch as wrong:
                mismatch = mismatch or _refusal(wrong)
            except BadSignature as bad:
                raise _refusal(bad) from bad
            else:
                require_signed(parsed, call.query, call.headers)
                note_caller(key.caller)
                self._good_keys.add(parsed.secret_id)
                require_key_length(path[1:])
                return Admitted(with_path(call, path), key.caller, place, path[1:])
        assert mismatch is not None
        raise mismatch

    def admit_form(self, call: CosCall, fields: Mapping[str, str]) -> Admitted:
        """Who signed a form, by its *fields* (lower-case names, the key expanded): its policy, or the wx SDK's
        ``Signature``, which is an Authorization for a POST to ``/``.

        What the policy demands of the fields is the caller's to check.
        """
        with self._counting(call):
            return self._proved_form(call, fields)

    def _proved_form(self, call: CosCall, fields: Mapping[str, str]) -> Admitted:
        token = fields.get(TOKEN) or call.headers.get(TOKEN)
        try:
            if "policy" in fields:
                secret_id = fields.get("q-ak", "")
                key = self._open(call, secret_id, token)
                self._verify_policy(key, fields)
            elif "signature" in fields:
                parsed = parse_authorization(fields["signature"])
                secret_id = parsed.secret_id
                key = self._open(call, secret_id, token)
                as_headers = {**fields, "x-cos-acl": fields.get("acl", ""), **call.headers}
                self._verify(parsed, key, "POST", "/", call.query, as_headers)
                require_fields_signed(parsed, call.query, fields)
            else:
                raise CosRefusal("AccessDenied", "The form is not signed.")
        except BadSignature as bad:
            raise _refusal(bad) from bad
        note_caller(key.caller)
        self._good_keys.add(secret_id)
        require_key_length(fields["key"])
        return Admitted(call, key.caller, self._place(key.caller, call.host), fields["key"])

    @contextmanager
    def _counting(self, call: CosCall) -> Iterator[None]:
        """Count a signature that does not hold, or is none."""
        try:
            yield
        except CosRefusal as refusal:
            if refusal.code in _BAD_PROOFS or isinstance(refusal.__cause__, MalformedSignature):
                self._bad_proofs.note(address_of(call.request.scope))
            raise

    def _open(self, call: CosCall, secret_id: str, token: str | None) -> OpenedKey:
        address = address_of(call.request.scope)
        self._bad_proofs.require_heard(address, is_known=secret_id in self._good_keys)
        if not is_key_id(secret_id):
            raise CosRefusal("InvalidAccessKeyId", "The key was not issued by this gateway.")
        if not token:
            raise CosRefusal("AccessDenied", "A temporary key needs its x-cos-security-token.")
        try:
            return self._issuer.open(secret_id, token)
        except KeyUnknown:
            raise CosRefusal("InvalidAccessKeyId", "The key was not issued by this gateway.") from None
        except KeyExpired:
            raise CosRefusal("ExpiredToken", "The provided token has expired.") from None

    def _place(self, caller: Caller, host: str) -> Destination:
        """The key's only destination; a Host that names a bucket must name that one."""
        place = self._destinations.find(caller.policy, None)
        named = _HOST.fullmatch(_PORT.sub("", host).lower())
        if named is None or (named[1], named[2]) == (place.bucket.name, place.bucket.region):
            return place
        if any((named[1], named[2]) == (other.bucket.name, other.bucket.region) for other in self._destinations.all):
            raise CosRefusal("AccessDenied", "The key is for another bucket.")
        raise CosRefusal("NoSuchBucket", "The specified bucket does not exist.")

    def _verify(
        self,
        parsed: ParsedAuthorization,
        key: OpenedKey,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> None:
        now = self._clock()
        try:
            verify(parsed, key.secret_key, method, path, query, headers, now=now)
        except SignatureExpired as expired:
            if not 0 < expired.start - now <= EARLY_SECONDS:
                raise
            verify(parsed, key.secret_key, method, path, query, headers, now=expired.start)

    def _verify_policy(self, key: OpenedKey, fields: Mapping[str, str]) -> None:
        if fields.get("q-sign-algorithm") != "sha1":
            raise MalformedSignature("q-sign-algorithm is not sha1")
        text, key_time, signature = policy_text(fields), fields.get("q-key-time", ""), fields.get("q-signature", "")
        now = self._clock()
        try:
            verify_policy(key.secret_key, key_time, text, signature, now=now)
        except SignatureExpired as expired:
            if not 0 < expired.start - now <= EARLY_SECONDS:
                raise
            verify_policy(key.secret_key, key_time, text, signature, now=expired.start)


def policy_text(fields: Mapping[str, str]) -> str:
    """The JSON in the form field ``policy``. Raises CosRefusal."""
    try:
        return base64.b64decode(fields["policy"], validate=True).decode()
    except (binascii.Error, ValueError):
        raise CosRefusal("InvalidPolicyDocument", "The policy is not the base64 of a text.") from None


def _parsed(call: CosCall) -> ParsedAuthorization:
    if text := call.headers.get("authorization"):
        return parse_authorization(text)
    if "q-signature" in call.query:
        return parse_query(call.query)
    raise CosRefusal("AccessDenied", "The request is not signed.")


def _paths(call: CosCall, place: Destination) -> Iterator[str]:
    """What the SDK may have signed: the path, or what follows ``/<bucket>/<region>`` where its Domain has that."""
    yield call.path
    mount = f"/{place.bucket.name}/{place.bucket.region}/"
    if call.path.startswith(mount):
        yield call.path[len(mount) - 1 :]


def _refusal(failure: BadSignature) -> CosRefusal:
    match failure:
        case SignatureMismatch():
            return CosRefusal("SignatureDoesNotMatch", "The Signature you specified is invalid.")
        case SignatureExpired(start=start, now=now) if now < start:
            return CosRefusal("RequestTimeTooSkewed", "The signature's time has not come yet.")
        case SignatureExpired():
            # The SDKs look for exactly this text before they correct their clocks.
            return CosRefusal("AccessDenied", "Request has expired")
        case MalformedSignature(problem=problem):
            return CosRefusal("InvalidArgument", f"The signature cannot be read: {problem}.")
    return CosRefusal("AccessDenied", "Access Denied.")
