"""Files of clients that cannot resume: one PUT Object wherever that can be, so that the ETag is the file's MD5."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Final

from gateway.domain.errors import Conflict, FileTooLarge, GatewayError
from gateway.domain.parts import MAX_PUT_BYTES, MIB
from gateway.domain.policy import Caller
from gateway.domain.task import Task, TaskState
from gateway.telemetry import TASK_ID
from gateway.transfer.completion import Completion
from gateway.transfer.completion_plan import CompleteWanted
from gateway.transfer.control import Control
from gateway.transfer.digests import Digests
from gateway.transfer.drafts import NewTask
from gateway.transfer.engine import Engine
from gateway.transfer.interrupt import Interrupt
from gateway.transfer.relay import pass_on_failure, release_after
from gateway.transfer.replay import IncomingBody
from gateway.transfer.sequential import SequentialRelay
from gateway.transfer.whole_files import SMALL_FILE_BYTES

ONE_PIECE_BYTES: Final = 16 * MIB
"""A file of unknown length is buffered up to here before it is cut."""


class StreamedPut:
    """Receives whole files; of one that fails nothing stays at COS."""

    def __init__(self, engine: Engine, completion: Completion, control: Control, sequential: SequentialRelay) -> None:
        self._engine = engine
        self._completion = completion
        self._control = control
        self._sequential = sequential

    async def receive(
        self, caller: Caller, new: NewTask, length: int, source: AsyncIterator[bytes], said: Digests
    ) -> Task:
        """The task, in ``success``, of *source* with exactly *length* bytes.

        Nothing of *source* is asked for before the caller's policy has agreed. Until its last chunk is on the way the
        task can be paused and canceled, which ends the body; there is nothing to go on from then.

        Raises:
            FileTooLarge: more than one PUT may carry.
            GatewayError: nothing was stored.
        """
        if length > MAX_PUT_BYTES:
            raise FileTooLarge(f"The object has {length} bytes, expected at most {MAX_PUT_BYTES}.")
        new, source = await self._control.as_it_shows(caller, new, source)
        if length > SMALL_FILE_BYTES:
            task = await self._control.create_for_body(caller, replace(new, size=length))
            TASK_ID.set(task.id)
            return await self._stream(task, length, source, said)
        draft = self._control.draft_for_whole(caller, new, length)
        TASK_ID.set(draft.id)
        body = IncomingBody(length, replayable=True, expected_crc64=said.crc64)
        await body.pump(source)
        return await self._completion.put_new(draft, body, said.md5_base64)

    async def receive_unknown(
        self, caller: Caller, new: NewTask, source: AsyncIterator[bytes], said: Digests, at_most: int | None
    ) -> Task:
        """The task, in ``success``, of *source*, whose length shows at its end; *at_most* bounds it.

        Up to ``ONE_PIECE_BYTES`` it is one PUT, above that parts.
        """
        new, source = await self._control.as_it_shows(caller, new, source)
        task = await self._control.create_for_body(caller, replace(new, slice_size=ONE_PIECE_BYTES))
        TASK_ID.set(task.id)
        try:
            task = await self._sequential.receive_file(caller, task, source, said, at_most)
        except BaseException:
            await self._engine.owned.finish(self._drop(task), "drop what came")
            raise
        while task.state is TaskState.COMPLETING:
            task = await self._completion.complete(task, CompleteWanted())
        return task

    async def _drop(self, task: Task) -> None:
        now = await self._engine.tasks.load(task.id)
        if now is None or now.is_final or (now.state is TaskState.ERROR and now.upload_id is None):
            return
        with suppress(Conflict):  # COS is merging it already
            await self._control.discard(now)

    async def _stream(self, task: Task, length: int, source: AsyncIterator[bytes], said: Digests) -> Task:
        engine = self._engine
        lease = engine.budget.try_take(length, task.owner)
        body = IncomingBody(length, replayable=lease is not None, expected_crc64=said.crc64)
        storing = engine.owned.start(self._completion.put_streamed(task, body, said.md5_base64), "put object")
        try:
            async with Interrupt() as interrupt:
                storing.add_done_callback(lambda done: pass_on_failure(done, interrupt))

                def stop(reason: GatewayError) -> None:
                    if not body.whole:  # by then it is ``completing``, which takes no more bytes
                        interrupt(reason)

                with engine.bodies.registered(task, stop):
                    await body.pump(source)
            return await asyncio.shield(storing)
        except BaseException as error:
            body.fail(error)
            raise
        finally:
            release_after(storing, body, lease)
