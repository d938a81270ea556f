"""Signs a request, sends it, and sends it again where that is safe: after a failure, a wrong clock, expired keys."""

import asyncio
import email.utils
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from gateway.cos.credentials import CredentialSource
from gateway.cos.exchange import AttemptFailed, Exchange
from gateway.cos.restraint import Restraint
from gateway.cos.retrying import RetryBudget, delay_seconds
from gateway.cos.signing import Credentials
from gateway.cos.wire_answers import CosResponse
from gateway.cos.wire_errors import CosRefusal
from gateway.cos.wire_requests import CosRequest, signed_headers
from gateway.domain import errors
from gateway.domain.errors import CosAnswer, GatewayError
from gateway.domain.objects import PartBody
from gateway.telemetry import Metrics

log = logging.getLogger("gateway.cos")

_T = TypeVar("_T")

# What a repetition can cure. A digest that does not match may be a byte that was flipped on the way to COS.
_CURABLE: Final = (
    errors.StorageUnavailable,
    errors.StorageSlowDown,
    errors.StorageIntegrity,
    errors.StorageBadAnswer,
    errors.DigestMismatch,
)
# Below this a clock is right enough: COS allows more. The official SDKs use the same bound.
_SKEW_SECONDS: Final = 30.0
_ALARMING_SKEW_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Signer:
    """What one attempt is signed with."""

    credentials: Credentials
    offset_seconds: float


@dataclass(frozen=True, slots=True)
class _Success(Generic[_T]):
    value: _T


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why an attempt failed. ``refusal`` and ``date``: COS's own answer, when that was a no."""

    error: GatewayError
    nothing_sent: bool = False
    refusal: CosRefusal | None = None
    date: str = ""


class Sender:
    """Carries out calls: each with up to three attempts, all within one retry budget and each bucket's restraint.

    Args:
        clock: Unix seconds; corrected by COS's own Date once COS calls our signatures expired.
    """

    def __init__(
        self, exchange: Exchange, credentials: CredentialSource, clock: Callable[[], float], metrics: Metrics
    ) -> None:
        self._metrics = metrics
        self._restraint = Restraint(metrics)
        self._exchange = exchange
        self._credentials = credentials
        self._clock = clock
        self._offset_seconds = 0.0
        self._budget = RetryBudget()
        self._dice = random.SystemRandom().random

    async def call(self, request: CosRequest, read: Callable[[CosResponse], _T], body: PartBody | None = None) -> _T:
        """What *read* makes of COS's success.

        Raises:
            GatewayError: COS's refusal, or the last failure; or what *read* raised; or COS is not asked for now.
            Exception: whatever *body* raised, unchanged.
        """
        self._budget.earn()
        replayable = body is None or body.replayable
        repaired: set[str] = set()
        attempts = 0
        failing_since: float | None = None
        before: CosAnswer | None = None
        while True:
            await self._restraint.admit(request, before, streams=not replayable)
            signer = _Signer(await self._keys(), self._offset_seconds)
            outcome = await self._attempt(request, read, body, signer, again=attempts > 0)
            if isinstance(outcome, _Success):
                self._restraint.succeeded(request.bucket)
                return outcome.value
            before = outcome.error.cos
            self._restraint.failed(request.bucket, outcome.error)
            _log(request, outcome)
            if await self._repair(outcome, signer, repaired):
                if replayable:
                    continue
                raise errors.StorageUnavailable("the signature is corrected; send again", cos=outcome.error.cos)
            if isinstance(outcome.error, errors.ObjectExists):
                outcome.error.may_be_ours = attempts > 0
            attempts += 1
            now = asyncio.get_running_loop().time()
            failing_since = failing_since or now
            safe = outcome.nothing_sent or (replayable and request.repeatable)
            wait = delay_seconds(attempts, self._dice(), outcome.error.retry_after_seconds, now - failing_since)
            if not safe or not isinstance(outcome.error, _CURABLE) or wait is None or not self._budget.spend():
                raise outcome.error
            self._metrics.count("gateway_cos_retries_total", request.operation)
            await asyncio.sleep(wait)

    def report(self) -> None:
        """Enter the gauges: how fast each bucket is asked, and how far COS's clock is."""
        self._restraint.report()
        self._metrics.put("gateway_cos_clock_offset_seconds", abs(self._offset_seconds))

    async def aclose(self) -> None:
        await self._exchange.aclose()

    async def _keys(self) -> Credentials:
        try:
            return await self._credentials.current()
        except errors.CredentialsUnavailable as error:
            self._metrics.count("gateway_cos_errors_total", error.code)
            raise

    async def _attempt(
        self,
        request: CosRequest,
        read: Callable[[CosResponse], _T],
        body: PartBody | None,
        signer: _Signer,
        *,
        again: bool,
    ) -> _Success[_T] | _Failure:
        now = self._clock() + signer.offset_seconds
        length = body.size if body is not None else len(request.content) if request.has_body else None
        headers = signed_headers(request, signer.credentials, length, now)
        try:
            # A connection that failed, or stood idle while COS failed, may hold the rest of what broke: use another.
            response = await self._exchange.once(request, headers, body, alone=again)
        except AttemptFailed as failed:
            return _Failure(failed.error, nothing_sent=failed.nothing_sent)
        refusal = response.refusal()
        if refusal is not None:
            return _Failure(refusal.error(), refusal=refusal, date=response.headers.get("date", ""))
        try:
            return _Success(read(response))
        except GatewayError as error:
            return _Failure(error)

    async def _repair(self, failure: _Failure, signer: _Signer, repaired: set[str]) -> bool:
        """Put right, once each, what made COS refuse the signature: our clock, or keys that have run out."""
        refusal = failure.refusal
        if refusal is None:
            return False
        if refusal.may_be_clock_skew and "clock" not in repaired:
            repaired.add("clock")
            if self._learn_offset(failure.date, signer):
                return True
        if refusal.may_be_old_keys and "keys" not in repaired:
            repaired.add("keys")
            return await self._renew_keys(refusal, signer)
        return False

    async def _renew_keys(self, refusal: CosRefusal, signer: _Signer) -> bool:
        try:
            await self._credentials.refresh(signer.credentials)
        except errors.CredentialsUnavailable:
            if refusal.is_expired_token:
                raise
            return False  # there are no others: COS's refusal stands
        return True

    def _learn_offset(self, date: str, signer: _Signer) -> bool:
        try:
            there = email.utils.parsedate_to_datetime(date).timestamp()
        except ValueError:
            return False
        offset_seconds = there - self._clock()
        if abs(offset_seconds - signer.offset_seconds) < _SKEW_SECONDS:
            return False
        level = logging.ERROR if abs(offset_seconds) > _ALARMING_SKEW_SECONDS else logging.WARNING
        log.log(level, "COS's clock is %.0f s from ours; signing by COS's", offset_seconds)
        self._offset_seconds = offset_seconds
        return True


def _log(request: CosRequest, failure: _Failure) -> None:
    error = failure.error
    cos = error.cos
    log.log(
        logging.WARNING if isinstance(error, errors.Storage) else logging.DEBUG,
        "%s failed: %s, status %s, code %s, request %s",
        request.operation,
        error.code,
        cos.status if cos else 0,
        (cos.code if cos else "") or "-",
        (cos.request_id if cos else "") or "-",
    )
