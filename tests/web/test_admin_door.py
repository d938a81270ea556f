import httpx
import pytest
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


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((name, 404) for name in ("127.0.0.1:9090", "[::1]:9090", "10.1.2.3", "gateway-1:9090", "localhost")),
        *((name, 404) for name in ("metrics.example", "METRICS.example:9090")),
        *((name, 400) for name in ("rebound.attacker.example", "rebound.attacker.example:9090", "127.0.0.1.nip.io")),
        *((name, 400) for name in ("attacker.com.", "metrics.example.attacker.com", "[::1].example")),
    ],
)
async def test_s22_a_name_that_somebody_could_register_is_not_answered(host: str, status: int) -> None:
    door = AdminDoor(Starlette(exception_handlers=exception_handlers()), {"metrics.example"})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://gateway") as client:
        answer = await client.get("/metrics", headers={"Host": host})
        probe = await client.get("/readyz", headers={"Host": host})

    assert (answer.status_code, probe.status_code) == (status, 404)
    assert answer.json()["code"] == ("bad_host" if status == 400 else "not_found")
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
