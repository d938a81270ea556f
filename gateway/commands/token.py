"""``token``: a bearer token for whoever tries the gateway."""

import argparse
from typing import TYPE_CHECKING, Any

from gateway.commands.ending import BAD_SETTINGS, OK, CommandFailed, say

if TYPE_CHECKING:
    from gateway.config import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose it is, and each claim of its policy."""
    from gateway.domain.policy import Action

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
    parser.add_argument(
        "--options", nargs="*", metavar="OPTION", help="only these options of the bucket's; grant_* means every grant"
    )
    parser.add_argument("--forbid-overwrite", action="store_true", default=None, help="replaces no object")
    parser.add_argument("--ttl", type=_count, default=3600, metavar="SECONDS", help="how long it is good, default 3600")


def run(given: argparse.Namespace) -> int:
    """Print one token and nothing else."""
    from gateway.commands.given_settings import readable_settings
    from gateway.dev.made_up import read_secrets

    settings = readable_settings()
    made_up = read_secrets(settings.data_dir)
    if not settings.token_secret.get_secret_value() and made_up is not None:
        settings = readable_settings(token_secret=made_up.token_secret)
    if not settings.token_secret.get_secret_value():
        raise CommandFailed("GATEWAY_TOKEN_SECRET is not set, and no dev has made one up here.", code=BAD_SETTINGS)
    longest = settings.token_life_seconds
    if given.ttl > longest:
        raise CommandFailed(f"--ttl is {given.ttl}, expected at most GATEWAY_TOKEN_LIFE_SECONDS, {longest}.")
    policy = {
        "buckets": given.bucket,
        "prefix": given.prefix,
        "max_size": given.max_size,
        "types": given.types,
        "actions": given.actions,
        "options": given.options,
        "forbid_overwrite": given.forbid_overwrite,
    }
    say(make_token(settings, given.subject, given.ttl, **policy))
    return OK


def make_token(settings: "Settings", subject: str, ttl_seconds: int, **policy: Any) -> str:
    """A bearer token for *subject*, signed with the settings' secret; a policy claim that is None restricts nothing."""
    import time

    import jwt

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


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError("expected a whole number from 0 up")
    return int(text)
