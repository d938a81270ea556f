"""The command line: finds the command that is meant and runs it; a failure is lines on stderr and an exit code."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from gateway.commands.ending import (
    FAILED,
    INTERRUPTED,
    CommandFailed,
    OutputFailed,
    complain,
    spell_out_what_cannot_be_shown,
)

_COMMANDS: Final = {
    "serve": ("serve", "Run the gateway; it refuses settings that are insecure or cannot work."),
    "dev": ("dev", "Run Redis, a local COS and the gateway here, making up whatever is not set, until Ctrl-C."),
    "token": ("token", "Print one token and nothing else."),
    "revoke": ("revoke", "End every token of a subject, or one token, in all processes."),
    "check-config": ("check_config", "Print the settings in force, without secrets; look at Redis, COS and the clock."),
    "doctor": ("doctor", "Write, read and delete a small object and a small key; say what is wrong, and the mend."),
    "upload": ("upload", "Send files to a running gateway; the same command again goes on where one stopped."),
    "tasks": ("tasks", "List the tasks of a running gateway, newest first."),
    "pause": ("control", "Pause tasks: bodies in flight end, what is stored stays."),
    "restart": ("control", "Let paused or failed tasks go on; nothing moves until somebody sends."),
    "cancel": ("control", "End tasks for good, and drop their parts at COS."),
}
"""By name: the module in ``gateway.commands``, and what the command does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    spell_out_what_cannot_be_shown()
    given = _parser(words[0] if words else "").parse_args(words)
    try:
        return int(given.run(given))
    except CommandFailed as failure:
        complain(failure.sentences)
        return failure.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except OutputFailed as failure:
        complain([f"The output could not be written ({failure})."])
        return FAILED


def _parser(name: str) -> argparse.ArgumentParser:
    """A parser that knows every command, but the arguments of *name* only: each other's would have to be imported."""
    parser = argparse.ArgumentParser(prog="python -m gateway", description="The upload gateway.")
    commands = parser.add_subparsers(required=True, metavar="command", dest="command")
    for command, (module, purpose) in _COMMANDS.items():
        sub = commands.add_parser(command, help=purpose, description=purpose)
        if command == name:
            found = import_module(f"gateway.commands.{module}")
            found.add_arguments(sub)
            sub.set_defaults(run=found.run)
    return parser
