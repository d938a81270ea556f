"""The commands: serve, dev, token, check-config. Each reads the settings, calls one thing and returns an exit code."""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import jwt

from gateway.config import BadSettings, Settings, load_settings, unknown_names
from gateway.domain.policy import Action

OK: Final = 0
FAILED: Final = 1
BAD_SETTINGS: Final = 2
_DEV_SUBJECT: Final = "developer"
_DEV_TOKEN_SECONDS: Final = 30 * 24 * 3600


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = _parser().parse_args(arguments)
    try:
        settings = load_settings()
        return int(given.command(settings, given))
    except BadSettings as error:
        return _complain(error.sentences)


def serve(settings: Settings, _given: argparse.Namespace) -> int:
    """Run the gateway; it refuses settings that are insecure or cannot work."""
    problems = settings.problems()
    if problems:
        return _complain(problems)
    from gateway.serving.run import run  # the other commands need none of what it loads

    return run(settings)


def dev(settings: Settings, _given: argparse.Namespace) -> int:
    """Run Redis, a local COS and the gateway here, making up whatever is not set, until Ctrl-C."""
    from gateway.dev.local_redis import RedisServerFailed, RedisServerMissing
    from gateway.dev.made_up import keep_secrets
    from gateway.dev.plan import free_port, make_plan
    from gateway.dev.stack import StackFailed, run_stack

    plan = make_plan(settings, keep_secrets(settings.data_dir), free_port)
    problems = plan.settings.problems()
    if problems:
        return _complain(problems)
    page = plan.page
    if plan.settings.token_secret.get_secret_value():
        page += "#token=" + make_token(plan.settings, _DEV_SUBJECT, _DEV_TOKEN_SECONDS)

    def announce() -> None:
        print(f"The upload gateway is ready:\n\n  {page}\n")
        print(f"Data and logs are in {settings.data_dir}/. Ctrl-C stops it.", flush=True)

    try:
        asyncio.run(run_stack(plan, announce))
    except (RedisServerFailed, RedisServerMissing, StackFailed) as error:
        print(error, file=sys.stderr)
        return FAILED
    return OK


def token(settings: Settings, given: argparse.Namespace) -> int:
    """Print one token and nothing else."""
    from gateway.dev.made_up import read_secrets

    made_up = read_secrets(settings.data_dir)
    if not settings.token_secret.get_secret_value() and made_up is not None:
        settings = load_settings(token_secret=made_up.token_secret)
    if not settings.token_secret.get_secret_value():
        return _complain(["GATEWAY_TOKEN_SECRET is not set, and no dev has made one up here."])
    policy = {
        "buckets": given.bucket,
        "prefix": given.prefix,
        "max_size": given.max_size,
        "types": given.types,
        "actions": given.actions,
    }
    print(make_token(settings, given.subject, given.ttl, **policy))
    return OK


def check_config(settings: Settings, _given: argparse.Namespace) -> int:
    """Print the settings in force, without secrets, and what is wrong with them."""
    for name, text in settings.effective().items():
        print(f"{name}={text}")
    for name in unknown_names():
        print(f"{name} is no setting of ours: is it a typing error?", file=sys.stderr)
    problems = settings.problems()
    return _complain(problems) if problems else OK


def make_token(settings: Settings, subject: str, ttl_seconds: int, **policy: Any) -> str:
    """A bearer token for *subject*, signed with the settings' secret; a policy claim that is None restricts nothing."""
    now = int(time.time())
    claims = {
        "sub": subject,
        "aud": settings.token_audience,
        "iat": now,
        "exp": now + ttl_seconds,
        **({"iss": settings.token_issuer} if settings.token_issuer else {}),
        **{name: value for name, value in policy.items() if value is not None},
    }
    return jwt.encode(claims, settings.token_secret.get_secret_value(), algorithm="HS256")


def _complain(sentences: Sequence[str]) -> int:
    for sentence in sentences:
        print(sentence, file=sys.stderr)
    return BAD_SETTINGS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gateway", description="The upload gateway.")
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, command in (("serve", serve), ("dev", dev), ("token", token), ("check-config", check_config)):
        sub = commands.add_parser(name, help=command.__doc__, description=command.__doc__)
        sub.set_defaults(command=command)
        if command is token:
            _add_token_arguments(sub)
    return parser


def _add_token_arguments(parser: argparse.ArgumentParser) -> None:
    actions = [action.value for action in Action]
    parser.add_argument("--subject", required=True, metavar="NAME", help="whose tasks it opens")
    parser.add_argument("--bucket", action="append", metavar="ALIAS", help="only this bucket; may be repeated")
    parser.add_argument("--prefix", metavar="KEYS", help="only keys that begin so")
    parser.add_argument("--max-size", type=_count, metavar="BYTES", help="largest file")
    parser.add_argument(
        "--types", nargs="+", metavar="TYPE", help="only these content types; image/* means every image"
    )
    parser.add_argument(
        "--actions", nargs="+", choices=actions, metavar="ACTION", help=f"only these: {', '.join(actions)}"
    )
    parser.add_argument("--ttl", type=_count, default=3600, metavar="SECONDS", help="how long it is good, default 3600")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError("expected a whole number from 0 up")
    return int(text)
