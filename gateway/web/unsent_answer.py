"""Answers on their way out: what a client has not taken yet is held by a lease of whoever asked."""

from collections.abc import MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from starlette.types import Message, Receive, Scope, Send

from gateway.domain.errors import GatewayError
from gateway.transfer.process_memory import WAIT_SECONDS, ProcessMemory
from gateway.web.client_address import address_of
from gateway.web.problems import current_request_id, problem_response

SMALL_BYTES: Final = 16 << 10
"""An answer up to this size is part of what its connection may hold."""
_OWNER: Final = "gateway.owner"


def note_owner(scope: MutableMapping[str, Any], owner: str) -> None:
    """The answer to the request *scope* is *owner*'s to take."""
    scope[_OWNER] = owner


async def held(memory: ProcessMemory, scope: MutableMapping[str, Any], size: int) -> AbstractContextManager[object]:
    """Hold an answer of *size* bytes as long as the block runs that sends it.

    Raises:
        Overloaded, RateLimited: there is no memory for it: earlier answers were not taken.
    """
    if size <= SMALL_BYTES:
        return nullcontext()
    owner: str | None = scope.get(_OWNER)
    if owner is None:
        return await memory.strangers.take(size, address_of(scope), WAIT_SECONDS)
    return await memory.callers.take(size, owner, WAIT_SECONDS)


class UnsentAnswer:
    """The answer of one HTTP request: ``send`` is what its application is given.

    An answer that there is no memory for is replaced by the problem that says so, as long as nothing of it is out.
    """

    __slots__ = ("_begin", "_is_replaced", "_memory", "_receive", "_scope", "_send")

    def __init__(self, memory: ProcessMemory, scope: Scope, receive: Receive, send: Send) -> None:
        self._memory = memory
        self._scope = scope
        self._receive = receive
        self._send = send
        self._begin: Message | None = None
        self._is_replaced = False

    async def send(self, message: Message) -> None:
        """Send *message*, or what replaces it."""
        if message["type"] == "http.response.start":
            self._begin = message
        elif message["type"] == "http.response.body":
            await self._send_body(message)
        else:
            await self._send(message)

    async def _send_body(self, message: Message) -> None:
        if self._is_replaced:
            return
        try:
            lease = await held(self._memory, self._scope, len(message.get("body", b"")))
        except GatewayError as refusal:
            if self._begin is None:
                raise
            self._is_replaced = True
            await problem_response(refusal, current_request_id())(self._scope, self._receive, self._send)
            return
        with lease:
            begin, self._begin = self._begin, None
            if begin is not None:
                await self._send(begin)
            await self._send(message)
