"""``doctor``: does in Redis and COS what the gateway does, and says in one line what is wrong and what mends it."""

import argparse
from typing import TYPE_CHECKING

from gateway.commands.ending import FAILED, OK, say

if TYPE_CHECKING:
    from gateway.commands.findings import Finding
    from gateway.config import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A front end's origin may be asked about too."""
    parser.add_argument("--origin", metavar="https://HOST", help="whether pages from there may upload")


def run(given: argparse.Namespace) -> int:
    """Print one line for each thing that was tried; it fails unless all is as it should be, warnings included."""
    import asyncio

    from gateway.commands.findings import Level
    from gateway.commands.given_settings import good_settings
    from gateway.commands.survey import look

    settings = good_settings()
    findings = [*asyncio.run(look(settings, try_all=True)), cors(settings, given.origin)]
    for finding in findings:
        say(str(finding))
    return OK if all(finding.level is Level.OK for finding in findings) else FAILED


def cors(settings: "Settings", origin: str | None) -> "Finding":
    """Whether browsers let pages of *origin* call the gateway; without one, which origins there are."""
    from gateway.commands.findings import Finding, problem

    allowed = ", ".join(settings.allowed_origins) or "no other origin"
    if origin is None:
        return Finding("cors", f"our own pages and {allowed} may upload (GATEWAY_ALLOWED_ORIGINS)")
    if origin.rstrip("/").lower() not in settings.allowed_origins:
        return problem("cors", f"GATEWAY_ALLOWED_ORIGINS lists {allowed}: add {origin.rstrip('/').lower()}.")
    return Finding("cors", f"pages of {origin} may upload")
