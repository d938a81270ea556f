"""A whole file in one request: small ones are awaited and written down once, larger ones stream."""

from collections.abc import AsyncIterator
from typing import Final

from gateway.domain.errors import BodyIncomplete
from gateway.domain.policy import Caller
from gateway.domain.task import Task
from gateway.telemetry import TASK_ID
from gateway.transfer.control import Control
from gateway.transfer.digests import Digests
from gateway.transfer.drafts import NewTask
from gateway.transfer.first_chunks import chained, read_first
from gateway.transfer.sequential import SequentialRelay

SMALL_FILE_BYTES: Final = 64 * 1024
"""Up to here a file is awaited; its task is then written once, with its end in it."""


class WholeFiles:
    """What every request that is a file of its own goes through, whatever door it came in by."""

    def __init__(self, control: Control, sequential: SequentialRelay) -> None:
        self._control = control
        self._sequential = sequential

    async def receive(
        self, caller: Caller, new: NewTask, source: AsyncIterator[bytes], said: Digests, at_most: int | None
    ) -> Task:
        """The task of the file in *source*: in ``success``, or still ``completing``.

        Nothing of *source* is read before the caller's policy allows it. A small file is awaited first: its task is
        then written once, with its end in it. *at_most* bounds a size that is unknown.

        Raises:
            GatewayError: as ``openapi.yaml`` lists them for ``POST /v1/files``.
        """
        checked = self._control.check(caller, new)
        shown, source = await self._control.as_it_shows(caller, new, source)
        if shown is not new:
            checked = self._control.check(caller, shown)
        head = await read_first(source, SMALL_FILE_BYTES + 1)
        if (size := sum(map(len, head))) <= SMALL_FILE_BYTES:
            draft = self._control.draft_for_whole(caller, shown, _as_said(shown, size), checked)
            TASK_ID.set(draft.id)
            return await self._sequential.receive_whole(draft, head, said)
        task = await self._control.create_for_body(caller, shown)
        TASK_ID.set(task.id)
        return await self._sequential.receive_file(caller, task, chained(head, source), said, at_most)


def _as_said(new: NewTask, size: int) -> int:
    if new.size not in (None, size):
        raise BodyIncomplete(f"The file has {size} bytes, expected {new.size}.", expected=new.size)
    return size
