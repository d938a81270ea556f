"""How tests, also in another process, make the local COS fail and read what it was asked.

``POST /.local-cos/faults`` adds one rule (the fields of :class:`Fault`) or a list of them, ``DELETE`` clears them;
``GET /.local-cos/journal?version=N&seconds=S`` reads the journal, once it is newer than N, and ``DELETE`` empties it.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from gateway.dev.cos_answers import Answer, Refusal
from gateway.dev.cos_calls import Call, is_plain_host
from gateway.dev.cos_faults import Action, Fault, FaultBook, Honest
from gateway.dev.cos_journal import Journal, JournalEntry

PATH: Final = "/.local-cos/"
_ERROR: Final = re.compile(rb"<Error><Code>(\w+)</Code>")


class Control:
    """Faults and journal of one local COS, and the endpoint for both."""

    def __init__(self) -> None:
        self.faults = FaultBook()
        self.journal = Journal()

    def is_meant(self, scope: Scope, host: str) -> bool:
        """Whether the request is for this endpoint: it has a host without a bucket."""
        path: str = scope["path"]
        return path.startswith(PATH) and is_plain_host(host.rpartition(":")[0] or host)

    async def answer(self, call: Call, honest: Honest) -> Answer:
        """Write *call* down and answer it, as a fault wants if one meets it, else as *honest* does."""
        fault, attempt = self.faults.take(call)
        entry = self.journal.begin(call, attempt, fault.action.value if fault else None)
        status: int | None = None
        code = ""
        try:
            answer = await (self.faults.act(fault, call, honest) if fault else honest(call))
            status, code = answer.status, answer.code
        except Refusal as refusal:
            status, code = refusal.status, refusal.code
            raise
        finally:
            self.journal.end(entry, status, code)
        if isinstance(answer.body, bytes):
            return answer
        return replace(answer, body=self._noted(entry, answer.status, answer.body))

    async def _noted(self, entry: JournalEntry, status: int, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """*body*; an error in it, behind a 200, is written down as well."""
        async for chunk in body:
            if found := _ERROR.search(chunk):
                self.journal.end(entry, status, found[1].decode())
            yield chunk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = await self._respond(request, scope["path"].removeprefix(PATH))
        await response(scope, receive, send)

    async def _respond(self, request: Request, name: str) -> Response:
        match request.method, name:
            case "POST", "faults":
                return self._add(await request.json())
            case "DELETE", "faults":
                self.faults.clear()
                return Response(status_code=204)
            case "GET", "journal":
                query = request.query_params
                read = await self.journal.read(int(query.get("version", -1)), float(query.get("seconds", 0)))
                return JSONResponse(read)
            case "DELETE", "journal":
                self.journal.clear()
                return Response(status_code=204)
        return Response(status_code=404)

    def _add(self, given: Any) -> Response:
        rules = given if isinstance(given, list) else [given]
        try:
            faults = [_fault(rule) for rule in rules]
        except (TypeError, ValueError) as exc:
            return JSONResponse({"error": str(exc)}, status_code=400)
        for fault in faults:
            self.faults.add(fault)
        return JSONResponse({"added": len(faults)}, status_code=201)


def _fault(rule: Any) -> Fault:
    if not isinstance(rule, dict):
        raise TypeError("a rule is an object")
    return Fault(**{**rule, "action": Action(str(rule.get("action"))), "attempts": tuple(rule.get("attempts", ()))})
