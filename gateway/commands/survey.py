"""Looks at all that the gateway depends on: before it serves, for ``check-config`` and for ``doctor``."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import Final

from gateway.commands.cos_survey import look_at_cos, try_rights
from gateway.commands.cos_visit import CosVisit
from gateway.commands.findings import Finding, problem
from gateway.commands.redis_survey import look_at_redis
from gateway.config import Settings
from gateway.telemetry import metrics_folder
from gateway.web.auth import Authenticator

_AGAIN_SECONDS: Final = 0.25


async def look(settings: Settings, *, try_all: bool = False, clock: Callable[[], float] = time.time) -> list[Finding]:
    """What is found now; *try_all* also does in each bucket what the gateway would do. Each look takes 10 s at most."""
    logging.getLogger("gateway").addHandler(logging.NullHandler())  # what goes wrong is in the findings
    visit = CosVisit(settings, clock)
    try:
        redis, cos = await asyncio.gather(
            look_at_redis(settings.redis_url.get_secret_value(), name_owners=try_all),
            look_at_cos(visit, settings.buckets),
        )
        if try_all and not any(finding.is_problem for finding in cos):
            cos = [*await try_rights(visit, settings.buckets), *(one for one in cos if one.about == "clock")]
    finally:
        await visit.aclose()
    return [*redis, *cos, *look_at_files(settings)]


async def look_before_serving(settings: Settings) -> list[Finding]:
    """What is found, once somebody answers or ``start_seconds`` have passed; nothing when there are none."""
    if not settings.start_seconds:
        return []
    until = asyncio.get_running_loop().time() + settings.start_seconds
    while True:
        findings = await look(settings)
        problems = [finding for finding in findings if finding.is_problem]
        over = asyncio.get_running_loop().time() > until
        if over or not problems or not all(finding.passing for finding in problems):
            return findings
        await asyncio.sleep(_AGAIN_SECONDS)


def look_at_files(settings: Settings) -> Iterator[Finding]:
    """What is wrong with the files that the settings name, and with the disk that metrics of workers need."""
    jwks = settings.token_jwks_file
    if jwks is not None:
        try:
            Authenticator.with_jwks_file(jwks, settings.token_audience)
        except OSError as error:
            yield problem("tokens", f"GATEWAY_TOKEN_JWKS_FILE: {jwks} cannot be read ({error.strerror}): mend it.")
        except ValueError as error:
            yield problem("tokens", f"GATEWAY_TOKEN_JWKS_FILE: {jwks} cannot be used: {error}.")
    if settings.workers > 1:
        try:
            _write_into(settings)
        except OSError as error:
            said = f"{error.filename or 'the temporary folder'} cannot be written ({error.strerror})"
            yield problem("disk", f"GATEWAY_METRICS_DIR: {said}: name a folder on a tmpfs.")


def _write_into(settings: Settings) -> None:
    """Raise OSError where workers could not keep their metrics."""
    if settings.metrics_dir is None:
        with metrics_folder(None):
            return
    settings.metrics_dir.mkdir(parents=True, exist_ok=True)
    written = settings.metrics_dir / ".writable"  # not metrics_folder: it would drop those of workers that run
    written.touch()
    written.unlink()
