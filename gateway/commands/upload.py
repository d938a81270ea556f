"""``upload``: files of this machine, one after the other, to a running gateway."""

import argparse
import os
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.commands.calling import add_server_arguments, refusal_line, token_of_environment, unreachable_line
from gateway.commands.ending import BAD_SETTINGS, FAILED, OK, CommandFailed, complain, say
from gateway.commands.wording import bytes_in_words, visible

if TYPE_CHECKING:
    from gateway.commands.file_upload import Destination
    from gateway.commands.progress_line import ProgressLine
    from gateway.commands.rest_client import RestClient


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The files and where they go."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a file of this machine")
    parser.add_argument("--key", default="", metavar="PREFIX", help="what keys begin with; the file's name follows")
    parser.add_argument("--bucket", metavar="ALIAS", help="default: the gateway's first")
    parser.add_argument("--parallel", type=_parallel, default=4, metavar="N", help="parts at once, default 4")
    add_server_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Send every file, go on when one fails, and print where each stands."""
    import asyncio

    token = token_of_environment()
    names = [_name(path) for path in given.files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CommandFailed(
            f"{visible(', '.join(twice))}: two files would get one key; send them apart.", code=BAD_SETTINGS
        )
    try:
        return asyncio.run(_send_all(given, token))
    except KeyboardInterrupt:
        complain(["Interrupted. The same command goes on where this one stopped."])
        raise


async def _send_all(given: argparse.Namespace, token: str) -> int:
    from gateway.commands.progress_line import ProgressLine
    from gateway.commands.rest_client import Refused, RestClient, Unreachable

    failed = 0
    for path in given.files:
        line = ProgressLine(sys.stderr, visible(path.name))
        client = RestClient(given.server, token, line.say)
        try:
            await _send(client, path, _destination(given, path), line)
        except Refused as refusal:
            complain([refusal_line(visible(path), refusal)])
            failed += 1
            if refusal.status == 401:  # the other files would hear the same
                break
        except Unreachable as error:
            raise CommandFailed(unreachable_line(given.server, error)) from None
        except _Unsendable as error:
            complain([f"{visible(path)}: {error}"])
            failed += 1
        finally:
            line.close()
            await client.aclose()
    return FAILED if failed else OK


def _name(path: Path) -> str:
    """The file's name in NFC, as every door makes keys of names: a Mac may write é in two characters.

    It is read as UTF-8 whatever the locale is; what is not UTF-8 stays as it is, with surrogates.
    """
    return unicodedata.normalize("NFC", os.fsencode(path.name).decode(errors="surrogateescape"))


def _destination(given: argparse.Namespace, path: Path) -> "Destination":
    from gateway.commands.file_upload import Destination

    key = given.key + _name(path)
    try:
        key.encode()
    except UnicodeEncodeError:
        raise _Unsendable("its name is not UTF-8, so that no key can be made of it: rename it.") from None
    return Destination(given.bucket, key, given.parallel)


class _Unsendable(Exception):
    """The file itself cannot be sent."""


async def _send(client: "RestClient", path: Path, to: "Destination", line: "ProgressLine") -> None:
    from gateway.commands.file_upload import FileUpload
    from gateway.commands.local_file import FileChanged, LocalFile
    from gateway.domain.errors import InvalidSize

    try:
        file = LocalFile(path)
    except (OSError, InvalidSize) as error:
        raise _Unsendable(f"cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    try:
        task = await FileUpload(client, file, to, line).run()
    except FileChanged:
        raise _Unsendable("changed while it was read; send it again once nobody writes to it.") from None
    except OSError as error:
        raise _Unsendable(f"cannot be read: {error.strerror}.") from None
    finally:
        file.close()
    line.close()
    say(f"{visible(path)} -> {task['bucket']}/{visible(task['key'])} {bytes_in_words(task['size'])}")


def _parallel(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError("expected 1 to 64")
    return int(text)
