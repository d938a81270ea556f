"""``POST /v1/keys``: a bearer token becomes a short-lived key for Tencent's own SDKs at the COS door."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.domain.policy import Action
from gateway.web.admission import Admission
from gateway.web.cos_keys import DEFAULT_TTL_SECONDS, MAX_TTL_SECONDS, IssuedKey, KeyIssuer
from gateway.web.json_answers import JsonAnswer
from gateway.web.json_bodies import parse, read_json


class AskForKey(BaseModel):
    """The body of ``POST /v1/keys``; all of it may be left out."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    bucket: Annotated[str, Field(max_length=1024)] | None = None
    prefix: Annotated[str, Field(max_length=850)] | None = None
    ttl_seconds: int = Field(default=DEFAULT_TTL_SECONDS, ge=1, le=MAX_TTL_SECONDS)


class KeyRoutes:
    """The one route."""

    def __init__(self, admission: Admission, issuer: KeyIssuer) -> None:
        self._admission = admission
        self._issuer = issuer

    def routes(self) -> list[Route]:
        """``POST /v1/keys``."""
        return [Route("/v1/keys", self.issue, methods=["POST"])]

    async def issue(self, request: Request) -> Response:
        caller = self._admission.caller(request)
        caller.require(Action.KEYS)
        with self._admission.keeping(caller, request) as body:
            wanted = parse(AskForKey, await read_json(body, allow_empty=True))
        await self._admission.require_unrevoked(caller)
        key = self._issuer.issue(caller, wanted.bucket, wanted.prefix, wanted.ttl_seconds)
        return JsonAnswer(key_document(key), headers={"Cache-Control": "no-store"})


def key_document(key: IssuedKey) -> dict[str, str | int]:
    """*key* as callers see it."""
    return {
        "tmp_secret_id": key.tmp_secret_id,
        "tmp_secret_key": key.tmp_secret_key,
        "session_token": key.session_token,
        "start_time": key.start_time,
        "expired_time": key.expired_time,
        "bucket": key.place.bucket.name,
        "region": key.place.bucket.region,
    }
