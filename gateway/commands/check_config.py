"""``check-config``: the settings in force, what is wrong with them, and whether Redis and COS answer to them."""

import argparse

from gateway.commands.ending import FAILED, OK, complain, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It can be kept off the network."""
    parser.add_argument("--offline", action="store_true", help="only the settings: do not look at Redis and COS")


def run(given: argparse.Namespace) -> int:
    """Print the settings without secrets, then what was found; it fails where `serve` would refuse."""
    import asyncio

    from gateway.commands.given_settings import readable_settings, require_good
    from gateway.commands.survey import look

    settings = readable_settings()
    for name, text in settings.effective().items():
        say(f"{name}={text}")
    require_good(settings)
    if given.offline:
        return OK
    findings = asyncio.run(look(settings))
    complain([str(finding) for finding in findings])
    return FAILED if any(finding.is_problem for finding in findings) else OK
