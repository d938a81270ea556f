"""Single requests to COS as the settings have it: signed, bounded, never repeated; and what a refusal means."""

import email.utils
import time
from collections.abc import Callable
from typing import Final

from gateway.commands.findings import LOOK_SECONDS
from gateway.config import Settings
from gateway.cos.addresses import RangedResolver
from gateway.cos.exchange import AttemptFailed, CosLimits, Exchange
from gateway.cos.transport import AiohttpTransport
from gateway.cos.wire_answers import CosResponse
from gateway.cos.wire_errors import CosRefusal
from gateway.cos.wire_requests import CosRequest, signed_headers
from gateway.domain import errors
from gateway.domain.objects import Bucket
from gateway.from_settings import credentials_of

_CONNECT_SECONDS: Final = 3.0
_UNSURE: Final = 500


class CosVisit:
    """Asks COS. ``offset_seconds`` is how far COS's clock is ahead of ours, None until COS answered.

    Args:
        clock: Unix seconds.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._credentials = credentials_of(settings)
        self._exchange = Exchange(
            AiohttpTransport(resolver=RangedResolver(settings.cos_address_ranges)),
            endpoint=settings.cos_endpoint or None,
            scheme="https",
            limits=CosLimits(_CONNECT_SECONDS, LOOK_SECONDS, LOOK_SECONDS, LOOK_SECONDS),
            observe=None,
        )
        self.offset_seconds: float | None = None

    async def ask(self, request: CosRequest) -> CosResponse:
        """COS's answer; where it refused our clock, that to the same request signed by COS's.

        Raises:
            AttemptFailed: there was none.
            CredentialsUnavailable: there are no keys to sign with.
        """
        response = await self._once(request, 0.0)
        refusal = response.refusal()
        if refusal is not None and refusal.may_be_clock_skew and self.offset_seconds:
            return await self._once(request, self.offset_seconds)
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._exchange.aclose()

    async def _once(self, request: CosRequest, offset_seconds: float) -> CosResponse:
        length = len(request.content) if request.has_body else None
        credentials = await self._credentials.current()
        headers = signed_headers(request, credentials, length, self._clock() + offset_seconds)
        response = await self._exchange.once(request, headers, None)
        try:
            there = email.utils.parsedate_to_datetime(response.headers.get("date", "")).timestamp()
        except ValueError:
            return response
        self.offset_seconds = there - self._clock()
        return response

    def where(self, bucket: Bucket) -> str:
        """The setting that says where COS is asked for *bucket*, and the place itself."""
        endpoint = self._settings.cos_endpoint
        return f"GATEWAY_COS_ENDPOINT: {endpoint}" if endpoint else f"GATEWAY_BUCKETS: {bucket.host}"

    def no_answer(self, bucket: Bucket, failed: AttemptFailed) -> tuple[str, bool]:
        """Why COS did not answer, with the setting and the mend; and whether that may be over by itself."""
        if isinstance(failed.error, errors.StorageAddressRefused):
            return f"GATEWAY_COS_ADDRESS_RANGES: {bucket.host} has no address in them: suspect the DNS first.", False
        where = self.where(bucket)
        if isinstance(failed.error, errors.StorageUntrusted):
            return f"{where} has a certificate that is not {bucket.host}'s: suspect the network first.", False
        cause = "no connection" if failed.nothing_sent else "no answer in time"
        return f"{where} does not answer ({cause}): mend the address, the DNS or the firewall.", True

    def no_keys(self, cause: BaseException | None) -> str:
        """Why the file of *cause* holds no keys to sign with, with the setting and the mend."""
        path = self._settings.cos_credentials_file
        why = "it holds no valid keys"
        if isinstance(cause, OSError):
            why = f"it cannot be read ({cause.strerror or 'no answer in time'})"
        elif isinstance(cause, ValueError):
            why = f"it holds no keys ({cause})"
        return f"GATEWAY_COS_CREDENTIALS_FILE: {path}: {why}: see to whatever renews the file."

    def meaning(self, bucket: Bucket, refusal: CosRefusal) -> tuple[str, bool] | None:
        """What a refusal that any request would meet says of a setting, and whether it may pass; None: nothing."""
        known = self._by_code(bucket).get(refusal.code)
        if known is not None:
            return f"{known} ({refusal.code})", False
        if 300 <= refusal.status < 400:
            return (
                f"GATEWAY_BUCKETS: {bucket.name} is not in {bucket.region} ({refusal.status}): mend that",
                False,
            )
        if refusal.status >= _UNSURE:
            said = refusal.code or refusal.status
            return f"COS fails ({said}): look at Tencent Cloud's status, then try again", True
        return None

    def _by_code(self, bucket: Bucket) -> dict[str, str]:
        from_file = self._settings.cos_credentials_file is not None
        source = "GATEWAY_COS_CREDENTIALS_FILE"
        key_id, key, token = (
            source if from_file else f"GATEWAY_COS_{name}" for name in ("SECRET_ID", "SECRET_KEY", "SESSION_TOKEN")
        )
        return {
            "NoSuchBucket": f"GATEWAY_BUCKETS: COS has no bucket {bucket.name} in {bucket.region}: "
            "mend its name or region, or create it",
            "InvalidAccessKeyId": f"{key_id}: COS does not know this SecretId: copy it anew, or enable it",
            "SignatureDoesNotMatch": f"{key}: it is not the key of this SecretId: copy it anew",
            "ExpiredToken": f"{token}: the temporary keys have run out: renew them",
            "PaymentRequired": "the account of the COS keys is in arrears: pay the bill",
        }
