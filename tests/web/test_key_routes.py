"""``POST /v1/keys``: what SDKs sign with, in exchange for a bearer token."""

import time
from typing import Any

import httpx
import jwt
import pytest
from starlette.applications import Starlette

from gateway.domain.objects import Bucket
from gateway.domain.policy import Destination, Destinations
from gateway.web.admission import Admission
from gateway.web.auth import Authenticator
from gateway.web.cos_keys import KeyIssuer
from gateway.web.key_routes import KeyRoutes
from gateway.web.problems import exception_handlers
from gateway.web.sealing import Sealer
from tests.fakes.local_cos import RunningCos
from tests.fakes.redis_server import send_command
from tests.web.rest import running_rest

SECRET = "a secret of thirty-two bytes, or more"
PLACES = Destinations((Destination("files", Bucket("files-1250000000", "ap-guangzhou"), ""),))


async def ask(body: str | None = None, token: str | None = "good", **claims: Any) -> httpx.Response:
    issuer = KeyIssuer(Sealer.derive_from_secret(SECRET), PLACES)
    routes = KeyRoutes(Admission(Authenticator.with_secret(SECRET, "gateway")), issuer).routes()
    app = Starlette(routes=routes, exception_handlers=exception_handlers())
    told = {"sub": "alice", "aud": "gateway", "exp": int(time.time()) + 3600, **claims}
    headers = {} if token is None else {"Authorization": f"Bearer {jwt.encode(told, SECRET, algorithm='HS256')}"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        return await client.post("/v1/keys", content=body, headers=headers)


async def test_a_key_comes_as_every_sdk_wants_it() -> None:
    answer = await ask('{"ttl_seconds": 60}')
    key = answer.json()

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert (key["bucket"], key["region"]) == ("files-1250000000", "ap-guangzhou")
    assert key["expired_time"] - key["start_time"] == 60
    assert {type(key[name]) for name in ("start_time", "expired_time")} == {int}
    assert all(isinstance(key[name], str) for name in ("tmp_secret_id", "tmp_secret_key", "session_token"))


async def test_half_an_hour_is_the_default() -> None:
    for key in [(await ask()).json(), (await ask("{}")).json()]:
        assert key["expired_time"] - key["start_time"] == 1800


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ('{"ttl_seconds": 7201}', 400, "invalid_field"),
        ('{"ttl_seconds": 0}', 400, "invalid_field"),
        ('{"ttl_seconds": "60"}', 400, "invalid_field"),
        ('{"prefix": 1}', 400, "invalid_field"),
        ('{"secret": 1}', 400, "unknown_field"),
        ('{"bucket": "elsewhere"}', 400, "unknown_destination"),
        ("[]", 400, "bad_json"),
    ],
)
async def test_what_is_no_wish_is_refused(body: str, status: int, code: str) -> None:
    answer = await ask(body)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_only_those_who_may_get_one() -> None:
    assert (await ask(token=None)).json()["code"] == "unauthenticated"
    assert (await ask(actions=["upload"])).json()["code"] == "forbidden"
    assert (await ask('{"prefix": "a"}', prefix="b")).json()["code"] == "key_not_allowed"


@pytest.mark.parametrize("since", [0, 5])
async def test_s4_a_revoked_subject_gets_no_key_though_its_token_is_still_let_in(
    redis_url: str, cos: RunningCos, since: int
) -> None:
    now = int(time.time())
    async with running_rest(redis_url, cos, token_recheck_seconds=60) as rest:
        send_command(redis_url, "ZADD", "gw:revoked", str(now - since), "eve")
        async with rest.as_caller("eve", iat=now - since) as old, rest.as_caller("eve", iat=now - since + 1) as new:
            assert (await old.get("/v1/tasks")).status_code == 200, "the process has not looked yet"
            refused = await old.post("/v1/keys")
            assert (refused.status_code, refused.json()["code"]) == (401, "token_invalid")
            assert (await new.post("/v1/keys")).status_code == 200
