"""The sweeper: uploads at COS that belong to no living task are aborted, and the indexes of tasks are repaired.

It lists COS and trusts Redis only for what lives. Every process runs it; two at once do the same twice, no harm.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final, Protocol

from gateway.domain.errors import GatewayError, StateStoreUnavailable, UploadLost
from gateway.domain.objects import ObjectAddress, OpenUpload, UploadId
from gateway.domain.policy import Destination
from gateway.telemetry import Metrics
from gateway.transfer.aborting import abort_until_gone
from gateway.transfer.part_pages import part_pages
from gateway.transfer.ports import Clock, ObjectStore, TaskStore

log = logging.getLogger(__name__)

PAGE: Final = 250
"""Uploads looked at together: the event loop is not held up for more than some milliseconds."""
REPAIR_PAGE: Final = 200
PAUSE_SECONDS: Final = 0.05
"""Between two steps of a round: it lists, looks and aborts at most 20 times a second."""
CLAIM_SHARE: Final = 0.8
"""Of a period: for so long nobody else does what one process has done, so that each period somebody does."""
FAILURES_IN_A_ROW: Final = 3
"""So many calls to COS that fail end the round: one bad upload must not, and a brown-out must. So many that COS refuses
for good only make it a failed one: the uploads behind them are swept."""


class Claims(Protocol):
    """Short claims on periodic work; they save work, nothing relies on them."""

    async def take(self, name: str, seconds: float) -> bool:
        """Whether nobody did *name* for *seconds*; then it is ours. Raises StateStoreUnavailable."""


class IndexRepair(Protocol):
    """The walk over every index of tasks."""

    async def page(self, cursor: str | None, limit: int) -> str | None:
        """Repair up to *limit* tasks after *cursor*; where to go on, None at the end. Raises StateStoreUnavailable."""


@dataclass(frozen=True, slots=True)
class SweepRules:
    """What a round may do.

    Args:
        period_seconds: from one round to the next, and the most that a round takes.
        idle_seconds: how long nothing may have come to an upload that no task has, before it is aborted.
        whole_buckets: whether buckets without a prefix are swept too.
    """

    period_seconds: float
    idle_seconds: float
    whole_buckets: bool = False


class Failures:
    """What failed in one round since COS last did as it was asked. ``refusal``: of so many in a row, the last one."""

    def __init__(self) -> None:
        self._failed = self._refused = 0
        self.refusal: GatewayError | None = None

    def end(self) -> None:
        """COS did as it was asked."""
        self._failed = self._refused = 0

    def add(self, error: GatewayError) -> None:
        """One more. Raises it where it is one of too many that may be over later."""
        if error.retryable:
            self._failed += 1
            if self._failed >= FAILURES_IN_A_ROW:
                raise error
        else:
            self._refused += 1
            if self._refused >= FAILURES_IN_A_ROW:
                self.refusal = error


class Sweeper:
    """Sweeps *places*, one after the other."""

    def __init__(
        self,
        tasks: TaskStore,
        objects: ObjectStore,
        places: Sequence[Destination],
        rules: SweepRules,
        claims: Claims,
        repair: IndexRepair,
        metrics: Metrics,
        *,
        clock: Clock = time.time,
    ) -> None:
        self._tasks = tasks
        self._objects = objects
        self._places = places
        self._rules = rules
        self._claims = claims
        self._repair = repair
        self._metrics = metrics
        self._clock = clock

    async def run(self) -> None:
        """A round each period, at a time of its own, until cancelled."""
        for place in self._places:
            if not self._may_sweep(place):
                log.warning("a bucket without a prefix is not swept: GATEWAY_SWEEP_WHOLE_BUCKETS", extra=_named(place))
        first = random.uniform(0, min(60.0, self._rules.period_seconds))  # noqa: S311 -- jitter
        await asyncio.sleep(first)
        while True:
            began = asyncio.get_running_loop().time()
            await self.round()
            spent = asyncio.get_running_loop().time() - began
            await asyncio.sleep(max(0.0, random.uniform(0.9, 1.0) * self._rules.period_seconds - spent))  # noqa: S311

    async def round(self) -> None:
        """Sweep what no other process has swept lately; a failure ends the work at hand, never the process."""
        for place in self._places:
            if self._may_sweep(place):
                name = f"sweep:{place.bucket.name}:{place.prefix}"
                await self._guarded(name, partial(self.sweep, place), _named(place))
        await self._guarded("repair", self.mend, {})

    def _may_sweep(self, place: Destination) -> bool:
        return bool(place.prefix) or self._rules.whole_buckets

    async def _guarded(self, name: str, work: Callable[[], Awaitable[None]], told: Mapping[str, str]) -> None:
        """Do *work* if nobody did lately. What it raises is logged, with *told*, and counted."""
        period = self._rules.period_seconds
        try:
            if not await self._claims.take(name, CLAIM_SHARE * period):
                return
            async with asyncio.timeout(period):
                await work()
        except TimeoutError:
            log.warning("the sweep takes longer than its period, the next one goes on", extra=told)
            self._metrics.count("gateway_sweeps_total", "unfinished")
        except GatewayError as error:
            log.warning("the sweep failed: %s", error.code, extra=told)
            self._metrics.count("gateway_sweeps_total", "failed")
        else:
            self._metrics.count("gateway_sweeps_total", "done")
            self._metrics.put("gateway_sweep_last_success_seconds", self._clock())

    async def sweep(self, place: Destination) -> None:
        """Abort the uploads of *place* that belong to no living task and to which nothing came for ``idle_seconds``.

        Raises:
            Storage: COS failed several times in a row, or refused, which is told at the end.
            StateStoreUnavailable: Redis does not tell who lives.
        """
        key_marker: str | None = ""
        upload_id_marker = ""
        failures = Failures()
        while key_marker is not None:
            page = await self._objects.list_uploads(
                place.bucket,
                prefix=place.prefix,
                key_marker=key_marker,
                upload_id_marker=upload_id_marker,
                limit=PAGE,
            )
            self._metrics.count("gateway_sweep_uploads_seen_total", by=len(page.uploads))
            for upload in await self._without_task(page.uploads):
                await asyncio.sleep(PAUSE_SECONDS)
                await self._end(ObjectAddress(place.bucket, upload.key), upload.upload_id, failures)
            key_marker, upload_id_marker = page.next_key_marker, page.next_upload_id_marker or ""
            await asyncio.sleep(PAUSE_SECONDS)
        if failures.refusal is not None:
            raise failures.refusal

    async def _without_task(self, uploads: Sequence[OpenUpload]) -> list[OpenUpload]:
        """Those of *uploads* that are old enough and that no living task has."""
        old = [upload for upload in uploads if self._is_idle_since(upload.initiated)]
        openers = await self._tasks.find_uploads([upload.upload_id for upload in old], None)
        known = await self._tasks.load_many([task_id for task_id in openers if task_id is not None])
        living = {task.upload_id for task in known if task is not None and not task.is_final}
        return [upload for upload in old if upload.upload_id not in living]

    async def _end(self, at: ObjectAddress, upload_id: UploadId, failures: Failures) -> None:
        """Abort the upload if it is idle. Raises the last of too many *failures*."""
        try:
            if await self._is_idle(at, upload_id):
                gone = await abort_until_gone(self._objects, at, upload_id)
                self._metrics.count("gateway_sweep_aborted_total" if gone else "gateway_sweep_errors_total")
                log.info("an upload without a task was aborted", extra={"bucket": at.bucket.name, "gone": gone})
        except UploadLost:
            failures.end()
        except StateStoreUnavailable:
            raise
        except GatewayError as error:
            self._metrics.count("gateway_sweep_errors_total")
            log.warning("an upload without a task stays: %s", error.code, extra={"bucket": at.bucket.name})
            failures.add(error)
        else:
            failures.end()

    async def _is_idle(self, at: ObjectAddress, upload_id: UploadId) -> bool:
        """Whether every part is old enough (List Parts, doc 7747). Raises UploadLost."""
        async for page in part_pages(self._objects, at, upload_id):
            if not all(map(self._is_idle_since, page.last_modified)):
                return False
        return True

    def _is_idle_since(self, moment: str) -> bool:
        """Whether *moment* (ISO 8601, as COS writes it) is long enough ago; one that cannot be read is not."""
        then = unix_time(moment)
        return then is not None and then + self._rules.idle_seconds < self._clock()

    async def mend(self) -> None:
        """Strike tasks that are gone off every index, and list open intents and notices that are not listed.

        Raises:
            StateStoreUnavailable: Redis does not answer.
        """
        cursor = await self._repair.page(None, REPAIR_PAGE)
        while cursor is not None:
            await asyncio.sleep(PAUSE_SECONDS)
            cursor = await self._repair.page(cursor, REPAIR_PAGE)


def unix_time(moment: str) -> float | None:
    """*moment* (ISO 8601; UTC unless it names a zone) in Unix seconds, None if it cannot be read."""
    try:
        then = datetime.fromisoformat(moment)
    except ValueError:
        return None
    return (then if then.tzinfo is not None else then.replace(tzinfo=UTC)).timestamp()


def _named(place: Destination) -> dict[str, str]:
    return {"destination": place.alias}
