"""No answer of the API may be kept by a cache, or taken for another type than it says: tickets and keys are in them."""

import re
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from tests.web.rest import PREFIX, Rest

OPENAPI: Final[dict[str, Any]] = yaml.safe_load((Path(__file__).parents[2] / "openapi" / "openapi.yaml").read_text())
OPERATIONS: Final = [
    (method.upper(), path)
    for path, item in OPENAPI["paths"].items()
    for method in ("get", "put", "post", "delete", "patch", "head")
    if method in item and path not in ("/metrics", "/version")
]


def require_private(answer: httpx.Response) -> None:
    """Both headers, each once."""
    assert answer.headers.get_list("cache-control") == ["no-store"], answer.request.url
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"], answer.request.url


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_s19_every_operation_answers_for_its_caller_alone(rest: Rest, method: str, path: str) -> None:
    filled = re.sub(r"\{[a-z_]+\}", "A" * 22, path)
    async with rest.as_caller() as alice:
        require_private(await alice.request(method, filled))
        require_private(await alice.request(method, filled, headers={"Authorization": ""}))


async def test_s19_what_succeeds_is_as_private(rest: Rest) -> None:
    async with rest.as_caller() as alice:
        task = await alice.post("/v1/tasks", json={"key": f"{PREFIX}a", "size": 2 << 20, "part_size": 1 << 20})
        one = f"/v1/tasks/{task.json()['id']}"
        answers = [
            task,
            *[await alice.put(f"{one}/parts/{number}", content=bytes(1 << 20)) for number in (1, 2)],
            await alice.get(one),
            await alice.get(f"{one}/parts"),
            await alice.post(f"{one}/complete"),
            await alice.get("/v1/tasks"),
            await alice.get("/v1/uploads"),
            await alice.post("/v1/keys", json={"bucket": "files"}),
            await alice.post("/v1/batches", json={"files": [{"key": f"{PREFIX}b", "size": 1}]}),
            await alice.put(f"/v1/objects/{PREFIX}c", content=b"c"),
            await alice.post(f"/v1/files?key={PREFIX}d", content=b"d"),
            await alice.post(f"/v1/objects/{PREFIX}e?append&position=0", content=b"e"),
            await alice.head(f"/v1/objects/{PREFIX}c"),
            await alice.get("/livez"),
        ]

    assert {answer.status_code for answer in answers} <= {200, 201}
    for answer in answers:
        require_private(answer)


async def test_s19_an_object_tells_its_own_cache_control(rest: Rest) -> None:
    async with rest.as_caller() as alice:
        await alice.put(f"/v1/objects/{PREFIX}f?cache_control=max-age%3D60", content=b"f")
        answer = await alice.head(f"/v1/objects/{PREFIX}f")

    assert answer.headers.get_list("cache-control") == ["max-age=60"]
