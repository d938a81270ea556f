"""``pause``, ``restart`` and ``cancel``: moves of tasks at a running gateway."""

import argparse

from gateway.commands.calling import add_server_arguments, refusal_line, token_of, unreachable_line
from gateway.commands.ending import FAILED, OK, CommandFailed, complain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The tasks, by their ids."""
    parser.add_argument("ids", nargs="+", metavar="ID", help="the task's id, as `tasks` lists it")
    add_server_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Move each task, print its state, and go on when one refuses."""
    import asyncio

    return asyncio.run(_moved(given, token_of(given)))


async def _moved(given: argparse.Namespace, token: str) -> int:
    from urllib.parse import quote

    from gateway.commands.rest_client import Refused, RestClient, Unreachable

    client = RestClient(given.server, token)
    refused = 0
    try:
        for task_id in given.ids:
            try:
                task = await client.call("POST", f"/v1/tasks/{quote(task_id, safe='')}/{given.command}")
                print(f"{task['id']} {task['state']}", flush=True)
            except Refused as refusal:
                complain([refusal_line(task_id, refusal)])
                refused += 1
    except Unreachable as error:
        raise CommandFailed(unreachable_line(given.server, error)) from None
    finally:
        await client.aclose()
    return FAILED if refused else OK
