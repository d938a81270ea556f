"""The REST door of a whole gateway in the test's own event loop, before a real Redis and the local COS."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
import jwt

from gateway.app import Gateway
from gateway.config import load_settings
from gateway.config_values import BucketOptionsSetting, BucketSetting
from tests.fakes.local_cos import BUCKET, OTHER_BUCKET, RunningCos

SECRET: Final = "0123456789abcdef0123456789abcdef"
PREFIX: Final = "rest/"


@dataclass(frozen=True, slots=True)
class Rest:
    """A running gateway. The bucket ``files`` takes keys below ``rest/`` only, ``other`` any."""

    gateway: Gateway
    cos: RunningCos

    def as_caller(self, owner: str = "alice", **claims: Any) -> httpx.AsyncClient:
        """A client with *owner*'s token, restricted by *claims*."""
        now = int(time.time())
        payload = {"sub": owner, "aud": "upload-gateway", "iat": now, "exp": now + 600, **claims}
        payload = {name: value for name, value in payload.items() if value is not None}
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.gateway.public),
            base_url="http://127.0.0.1",
            headers={"Authorization": f"Bearer {jwt.encode(payload, SECRET, algorithm='HS256')}"},
            timeout=20,
        )


@asynccontextmanager
async def running_rest(redis_url: str, cos: RunningCos, **settings: Any) -> AsyncIterator[Rest]:
    """A gateway that runs for as long as the block does; *settings* go before its own."""
    given = {
        "buckets": (
            BucketSetting("files", BUCKET.name, BUCKET.region, PREFIX),
            BucketSetting("other", OTHER_BUCKET.name, OTHER_BUCKET.region, ""),
        ),
        "bucket_options": (BucketOptionsSetting("files", ("*",)), BucketOptionsSetting("other", ("*",))),
        "cos_endpoint": cos.url,
        "cos_secret_id": cos.key.secret_id,
        "cos_secret_key": cos.key.secret_key,
        "redis_url": redis_url,
        "token_secret": SECRET,
    }
    gateway = Gateway(load_settings(**{**given, **settings}))
    async with gateway.running():
        yield Rest(gateway, cos)
