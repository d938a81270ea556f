import httpx
from starlette.applications import Starlette

from gateway.web.admin_door import AdminDoor
from gateway.web.problems import exception_handlers


async def test_every_answer_has_an_id_and_a_refusal_says_the_same() -> None:
    door = AdminDoor(Starlette(exception_handlers=exception_handlers()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://gateway") as client:
        answers = [await client.get("/nothing") for _ in range(2)]

    ids = [answer.headers["x-request-id"] for answer in answers]
    assert [answer.json()["request_id"] for answer in answers] == ids
    assert len({*ids}) == 2
    assert all(len(bytes.fromhex(request_id)) == 16 for request_id in ids)
