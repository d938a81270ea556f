"""``serve``: the gateway, until a signal ends it."""

import argparse

from gateway.commands.ending import CommandFailed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none: all is in the settings."""


def run(_given: argparse.Namespace) -> int:
    """Serve, unless the settings are insecure or cannot work, or Redis or COS cannot be used."""
    import asyncio

    from gateway.commands.given_settings import good_settings
    from gateway.commands.survey import look_before_serving
    from gateway.serving.listeners import CannotStart
    from gateway.serving.run import run

    settings = good_settings()
    findings = asyncio.run(look_before_serving(settings))
    problems = [finding.text for finding in findings if finding.is_problem]
    if problems:
        raise CommandFailed(*problems)
    try:
        return run(settings)
    except CannotStart as error:
        raise CommandFailed(str(error)) from None
