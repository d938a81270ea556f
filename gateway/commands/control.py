"""``pause``, ``restart`` and ``cancel``: moves of tasks at a running gateway."""

import argparse
from typing import TYPE_CHECKING, Final

from gateway.commands.calling import add_server_arguments, refusal_line, token_of_environment, unreachable_line
from gateway.commands.ending import FAILED, OK, CommandFailed, complain, say

if TYPE_CHECKING:
    from gateway.commands.rest_client import RestClient

SENT_AGAIN: Final = "COS had dropped its upload, perhaps because somebody canceled it. All of it has to be sent again."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The tasks, by their ids."""
    parser.add_argument("ids", nargs="+", metavar="ID", help="the task's id, as `tasks` lists it")
    add_server_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Move each task, print its state, and go on when one refuses."""
    import asyncio

    return asyncio.run(_moved(given, token_of_environment()))


async def _moved(given: argparse.Namespace, token: str) -> int:
    from urllib.parse import quote

    from gateway.commands.rest_client import Refused, RestClient, Unreachable

    client = RestClient(given.server, token)
    refused = 0
    try:
        for task_id in given.ids:
            path = f"/v1/tasks/{quote(task_id, safe='')}"
            try:
                was_lost = given.command == "restart" and await _is_lost(client, path)
                task = await client.call("POST", f"{path}/{given.command}")
                say(f"{task['id']} {task['state']}")
                if was_lost:
                    complain([f"{task_id}: {SENT_AGAIN}"])
            except Refused as refusal:
                complain([refusal_line(task_id, refusal)])
                refused += 1
    except Unreachable as error:
        raise CommandFailed(unreachable_line(given.server, error)) from None
    finally:
        await client.aclose()
    return FAILED if refused else OK


async def _is_lost(client: "RestClient", path: str) -> bool:
    """Whether COS had dropped the task's upload; False where the token may not look."""
    from gateway.commands.rest_client import Refused

    try:
        error = (await client.call("GET", path))["error"]
    except Refused:
        return False
    return error is not None and error["code"] == "upload_lost"
