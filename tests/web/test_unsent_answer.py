"""Answers that clients do not take: who holds them, and who is refused when there is no memory for more."""

import asyncio
from typing import Any, Final

import httpx
import pytest
from starlette.types import Message

from gateway.domain.errors import Overloaded
from gateway.transfer.process_memory import ProcessMemory
from gateway.web.unsent_answer import SMALL_BYTES, UnsentAnswer, note_owner
from tests.web.rest import PREFIX, Rest

LARGE: Final = bytes(SMALL_BYTES + 1)
BEGIN: Final[Message] = {"type": "http.response.start", "status": 200, "headers": []}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.web.unsent_answer.WAIT_SECONDS", 0.01)


class Client:
    """Takes nothing of a body until it is told to."""

    def __init__(self, memory: ProcessMemory, owner: str | None = None) -> None:
        self.came: list[Message] = []
        self.takes = asyncio.Event()
        scope: dict[str, Any] = {"type": "http", "method": "GET", "client": ("198.51.100.1", 1), "headers": []}
        if owner is not None:
            note_owner(scope, owner)
        self.answer = UnsentAnswer(memory, scope, self._receive, self._send)

    async def _receive(self) -> Message:
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.came.append(message)
        if message["type"] == "http.response.body":
            await self.takes.wait()

    async def answered(self, *bodies: bytes) -> int:
        """The status that the client sees, of an answer made of *bodies*."""
        await self.answer.send(BEGIN)
        for number, body in enumerate(bodies, 1):
            await self.answer.send({"type": "http.response.body", "body": body, "more_body": number < len(bodies)})
        return int(self.came[0]["status"])


@pytest.mark.parametrize(("owner", "budget"), [("alice", "callers"), (None, "strangers")])
async def test_s6_a_large_answer_is_held_until_it_is_taken(owner: str | None, budget: str) -> None:
    memory = ProcessMemory.of(1 << 20)
    client = Client(memory, owner)
    sending = asyncio.create_task(client.answered(LARGE))
    await asyncio.sleep(0)

    assert {name: one.used_bytes for name, one in memory.budgets() if one.used_bytes} == {budget: len(LARGE)}

    client.takes.set()
    assert await sending == 200
    assert dict(memory.budgets())[budget].used_bytes == 0


async def test_s6_a_small_answer_asks_nobody() -> None:
    client = Client(ProcessMemory.of(0), "alice")
    client.takes.set()

    assert await client.answered(bytes(SMALL_BYTES)) == 200


@pytest.mark.parametrize(("holder", "status"), [("alice", 429), ("mallory", 503)])
async def test_s6_an_answer_without_memory_is_replaced_by_a_refusal(holder: str, status: int) -> None:
    memory = ProcessMemory.of(1 << 20)
    held = memory.callers.try_take(memory.callers.limit_bytes - (2 * len(LARGE) if status == 429 else 0), holder)
    assert held is not None
    client = Client(memory, "alice")
    client.takes.set()

    assert await client.answered(LARGE, b"more of it") == status
    assert [message["type"] for message in client.came] == ["http.response.start", "http.response.body"]
    assert dict(client.came[0]["headers"])[b"retry-after"]
    assert b"more of it" not in client.came[1]["body"]


async def test_s6_an_answer_that_has_begun_cannot_be_replaced() -> None:
    client = Client(ProcessMemory.of(0), "alice")
    client.takes.set()

    with pytest.raises(Overloaded):
        await client.answered(b"small", LARGE)


async def test_s6_one_subject_s_answers_hold_a_share_and_leave_some_for_others() -> None:
    memory = ProcessMemory.of(16 * len(LARGE))
    clients = [Client(memory, "mallory") for _ in range(16)]
    answers = [asyncio.create_task(client.answered(LARGE)) for client in clients]
    other = Client(memory, "alice")
    other.takes.set()
    await asyncio.sleep(0.1)

    assert await other.answered(LARGE) == 200
    for client in clients:
        client.takes.set()
    assert {200, 429} == set(await asyncio.gather(*answers))
    assert memory.callers.used_bytes == 0


async def test_s6_a_list_is_its_caller_s_to_take(rest: Rest, alice: httpx.AsyncClient) -> None:
    name = "n" * 500
    for number in range(40):
        created = {"key": f"{PREFIX}{number}{name}", "size": 1, "client_ref": "r" * 100}
        assert (await alice.post("/v1/tasks", json=created)).status_code == 201
    budget = rest.gateway.memory.callers
    held = budget.try_take(budget.limit_bytes, "mallory")
    assert held is not None

    refused = await alice.get("/v1/tasks", params={"limit": "100"})
    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")

    held.release()
    assert len((await alice.get("/v1/tasks", params={"limit": "100"})).json()["tasks"]) == 40
