"""What keeps calls from COS while it says SlowDown or fails every time, for each bucket alone."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from gateway.cos.breaker import Breaker
from gateway.cos.pace import Pace
from gateway.cos.wire_errors import code_of
from gateway.cos.wire_requests import CosRequest
from gateway.domain import errors
from gateway.domain.errors import CosAnswer, GatewayError
from gateway.domain.objects import Bucket
from gateway.telemetry import Metrics

log = logging.getLogger("gateway.cos")

# A body that streams holds up its client; one in memory, or none, waits as long as a repetition waits for COS.
_STREAMING_PATIENCE_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 5.5
_ENDING_PATIENCE_SECONDS: Final = 15.0
# They end what was begun: put off, they cost COS less than a client that starts anew.
_ENDING: Final = frozenset({"complete", "abort", "head_object", "list_parts"})


class Restraint:
    """One pace and one breaker a bucket; every attempt asks first, and tells afterwards what came of it.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._clock = clock
        self._buckets: dict[Bucket, tuple[Pace, Breaker]] = {}

    async def admit(self, request: CosRequest, before: CosAnswer | None, *, streams: bool = False) -> None:
        """Wait for *request*'s turn, or refuse it at once when that is far away.

        Args:
            streams: its body comes from a client as it is sent.
            before: COS's answer to the attempt before, for the refusal.

        Raises:
            StorageSlowDown, StorageUnavailable: with the seconds to come back after.
        """
        pace, breaker = self._of(request.bucket)
        is_ending = request.operation in _ENDING
        if breaker.is_open:
            await self._await_trial(breaker, _ENDING_PATIENCE_SECONDS if is_ending else 0.0, before)
        patience = _STREAMING_PATIENCE_SECONDS if streams else _PATIENCE_SECONDS
        patience = _ENDING_PATIENCE_SECONDS if is_ending else patience
        if (seconds := pace.turn(self._clock(), patience)) > patience:
            self._metrics.count("gateway_cos_held_back_total", "slow_down")
            raise errors.StorageSlowDown(
                "COS asked to slow down; it is not asked before then.", retry_after_seconds=seconds, cos=before
            )
        if seconds:
            await asyncio.sleep(seconds)

    async def _await_trial(self, breaker: Breaker, patience_seconds: float, before: CosAnswer | None) -> None:
        until = self._clock() + patience_seconds
        while seconds := breaker.turn(self._clock()):
            if self._clock() + seconds > until:
                self._metrics.count("gateway_cos_held_back_total", "failing")
                raise errors.StorageUnavailable(
                    "COS fails every time; it is not asked before then.", retry_after_seconds=seconds, cos=before
                )
            await asyncio.sleep(seconds)

    def succeeded(self, bucket: Bucket) -> None:
        """COS did what it was asked."""
        self._answered(bucket, self._of(bucket)[1])

    def failed(self, bucket: Bucket, error: GatewayError) -> None:
        """An attempt ended with *error*."""
        self._metrics.count("gateway_cos_errors_total", code_of(error))
        pace, breaker = self._of(bucket)
        now = self._clock()
        if isinstance(error, errors.StorageSlowDown):
            pace.slow_down(now, error.retry_after_seconds)
        if not _is_outage(error):
            self._answered(bucket, breaker)
        elif breaker.failed(now):
            log.error("%s fails every time; it is asked only now and then until it answers", bucket.name)

    def report(self) -> None:
        """Enter the gauges."""
        now = self._clock()
        for bucket, (pace, breaker) in self._buckets.items():
            self._metrics.put("gateway_cos_pace_share", pace.share(now), bucket.name)
            self._metrics.put("gateway_cos_breaker_open", breaker.is_open, bucket.name)

    def _answered(self, bucket: Bucket, breaker: Breaker) -> None:
        if breaker.answered():
            log.warning("%s answers again", bucket.name)

    def _of(self, bucket: Bucket) -> tuple[Pace, Breaker]:
        found = self._buckets.get(bucket)
        if found is None:
            found = self._buckets[bucket] = (Pace(), Breaker())
        return found


def _is_outage(error: GatewayError) -> bool:
    """Whether COS was not there, or not itself. Of a SlowDown and of a refusal it is."""
    if isinstance(error, errors.StorageUnavailable):
        return error.cos is None or error.cos.status >= 500
    return isinstance(error, errors.StorageBadAnswer)
