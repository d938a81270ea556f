"""``tasks``: the caller's tasks as a table."""

import argparse
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from gateway.commands.calling import add_server_arguments, refusal_line, token_of_environment, unreachable_line
from gateway.commands.ending import OK, CommandFailed, say
from gateway.commands.wording import bytes_in_words, visible

if TYPE_CHECKING:
    from gateway.commands.rest_client import RestClient

_PAGE: Final = 100
_HEADS: Final = ("ID", "STATE", "DONE", "SIZE", "KEY", "ERROR")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which tasks, and how many."""
    parser.add_argument("--state", metavar="STATE", help="only these states, separated by commas")
    parser.add_argument("--limit", type=int, default=_PAGE, metavar="N", help=f"how many, at most; default {_PAGE}")
    add_server_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Print the newest tasks first."""
    import asyncio

    from gateway.commands.rest_client import Refused, Unreachable

    try:
        rows = asyncio.run(_rows(given, token_of_environment()))
    except Refused as refusal:
        raise CommandFailed(refusal_line("tasks", refusal)) from None
    except Unreachable as error:
        raise CommandFailed(unreachable_line(given.server, error)) from None
    for line in table([_HEADS, *rows]):
        say(line)
    return OK


async def _rows(given: argparse.Namespace, token: str) -> list[Sequence[str]]:
    from gateway.commands.rest_client import RestClient

    client = RestClient(given.server, token)
    rows: list[Sequence[str]] = []
    try:
        async for task in _listed(client, given.state):
            if len(rows) >= given.limit:
                break
            rows.append(row(task))
    finally:
        await client.aclose()
    return rows


async def _listed(client: "RestClient", state: str | None) -> AsyncIterator[dict[str, Any]]:
    query = {"limit": str(_PAGE), **({"state": state} if state else {})}
    while True:
        page = await client.call("GET", "/v1/tasks", params=query)
        for task in page["tasks"]:
            yield task
        if page["next_cursor"] is None:
            return
        query["cursor"] = page["next_cursor"]


def row(task: Mapping[str, Any]) -> Sequence[str]:
    """One task's cells; what is not known is a dash. Control characters never reach the terminal."""
    percent, error = task["percent"], task["error"]
    return (
        task["id"],
        task["state"],
        "-" if percent is None else f"{int(percent * 100)} %",
        "-" if task["size"] is None else bytes_in_words(task["size"]),
        visible(task["key"]),
        "" if error is None else error["code"],
    )


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """*rows* in columns as wide as their widest cell."""
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) for cells in rows)
    return [line.rstrip() for line in lines]
