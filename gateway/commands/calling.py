"""What every command has that calls a running gateway: where it is, with whose token, and how a refusal is worded."""

import argparse
import os
from typing import TYPE_CHECKING, Final

from gateway.commands.ending import BAD_SETTINGS, CommandFailed

if TYPE_CHECKING:
    from gateway.commands.rest_client import Refused, Unreachable

TOKEN_VARIABLE: Final = "GATEWAY_TOKEN"  # noqa: S105 -- a variable's name
_SERVER: Final = "http://127.0.0.1:8080"
_ADVICE: Final = {
    "token_missing": "put a token into GATEWAY_TOKEN",
    "token_invalid": "put a token of this gateway into GATEWAY_TOKEN",
    "token_expired": "put a new token into GATEWAY_TOKEN; an upload goes on with the same command",
    "forbidden": "ask for a token that allows it",
    "key_not_allowed": "choose a --key that the token allows",
    "unknown_destination": "name a bucket of GATEWAY_BUCKETS with --bucket",
    "task_not_found": "look for its id with `tasks`",
    "task_paused": "somebody paused it: `restart` it, then send again",
    "task_error": "`tasks` names its error; `restart` it if the file is still wanted, then send again",
    "task_canceled": "somebody canceled it; the same command begins anew",
    "task_mode": "another client sends this file: leave it to that, or `cancel` it",
    "digest_mismatch": "the file changed, or the network changes bytes: send again",
    "upload_lost": "somebody may have canceled it; if not, the same command sends all of it again",
    "quota_exceeded": "finish or `cancel` some of the `tasks`",
    "storage_denied": "the operator has to act: `doctor` says what is wrong",
    "storage_refused": "the operator has to act: `doctor` says what is wrong",
    "credentials_unavailable": "the operator has to act: `doctor` says what is wrong",
    "no_gateway": "name the gateway's address with --server",
}


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """``--server``; the token is nobody's to see, so there is no argument for it."""
    parser.add_argument("--server", default=_SERVER, metavar="URL", help=f"the gateway's address, default {_SERVER}")


def token_of_environment() -> str:
    """The token of whoever calls. Raises CommandFailed where there is none."""
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token or not token.isascii() or not token.isprintable():
        wrong = "is no token" if token else "is not set"
        raise CommandFailed(f"{TOKEN_VARIABLE} {wrong}: put the caller's bearer token there.", code=BAD_SETTINGS)
    return token


def refusal_line(what: str, refused: "Refused") -> str:
    """One line: *what* was refused, the code, the gateway's words, and what to do."""
    said = ". ".join(dict.fromkeys(text.rstrip(".") for text in (refused.title, refused.detail) if text))
    advice = _ADVICE.get(refused.code, "try the same command again later" if refused.retryable else "")
    return f"{what}: {refused.code}: {said}." + (f" Do: {advice}." if advice else "")


def unreachable_line(server: str, error: "Unreachable") -> str:
    """One line: the gateway did not answer."""
    return f"{server} does not answer ({error}): start the gateway, or name its address with --server."
