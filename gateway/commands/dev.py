"""``dev``: Redis, a local COS and the gateway on this machine."""

import argparse
from typing import Final

from gateway.commands.ending import OK, CommandFailed, say

_SUBJECT: Final = "developer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(_given: argparse.Namespace) -> int:
    """Run all three, making up whatever is not set, until Ctrl-C."""
    import asyncio
    from contextlib import closing

    from gateway.commands.given_settings import readable_settings, require_good
    from gateway.commands.token import make_token
    from gateway.dev.local_redis import RedisServerFailed, RedisServerMissing
    from gateway.dev.made_up import keep_secrets
    from gateway.dev.plan import HeldPorts, make_plan
    from gateway.dev.stack import StackFailed, run_stack

    settings = readable_settings()
    try:
        made_up = keep_secrets(settings.data_dir)
    except OSError as error:
        raise CommandFailed(
            f"GATEWAY_DATA_DIR: {settings.data_dir} cannot be written ({error.strerror}): name another folder."
        ) from None
    with closing(HeldPorts()) as ports:
        plan = make_plan(settings, made_up, ports.take)
        require_good(plan.settings)
        page = plan.page
        if plan.settings.token_secret.get_secret_value():
            page += "#token=" + make_token(plan.settings, _SUBJECT, plan.settings.token_life_seconds)

        def announce() -> None:
            say(f"The upload gateway is ready:\n\n  {page}\n")
            say(f"Data and logs are in {settings.data_dir}/. Ctrl-C stops it.")

        try:
            asyncio.run(run_stack(plan, announce, ports))
        except (RedisServerFailed, RedisServerMissing, StackFailed) as error:
            raise CommandFailed(str(error)) from None
        return OK
