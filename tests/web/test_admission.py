"""Who is let in: good tokens, not too often, and nobody who was revoked."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import jwt
import pytest
from starlette.requests import HTTPConnection

from gateway.domain.errors import (
    BatchNotFound,
    RateLimited,
    StateStoreUnavailable,
    TaskNotFound,
    TokenExpired,
    TokenInvalid,
    Unauthenticated,
)
from gateway.domain.objects import Bucket
from gateway.domain.policy import Caller, Destination, Destinations, Policy
from gateway.web import spending
from gateway.web.admission import BURST_SECONDS, Admission, AdmissionLimits
from gateway.web.auth import Authenticator
from gateway.web.cos_keys import KeyIssuer
from gateway.web.receptions import refusal_of
from gateway.web.sealing import Sealer

SECRET = "a secret of thirty-two bytes, or more"
ALICE = Caller("alice", Policy(), 2e9)


def signed(subject: str = "alice", **claims: Any) -> str:
    told = {"sub": subject, "aud": "gateway", "exp": int(time.time()) + 3600, **claims}
    return jwt.encode(told, SECRET, algorithm="HS256")


def asking(token: str | None, address: str = "192.0.2.1") -> HTTPConnection:
    headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
    return HTTPConnection({"type": "http", "headers": headers, "client": (address, 5)})


class Redis:
    """What Redis says of who was revoked."""

    def __init__(self) -> None:
        self.revoked: dict[str, float] | None = {}
        self.asked = asyncio.Event()

    async def load(self) -> dict[str, float]:
        self.asked.set()
        if self.revoked is None:
            raise StateStoreUnavailable
        return self.revoked

    async def revoked_until(self, names: Sequence[str]) -> float | None:
        revoked = await self.load()
        return max((revoked[name] for name in names if name in revoked), default=None)


class Scene:
    """An admission at a time that the test sets."""

    def __init__(self, **limits: Any) -> None:
        self.now = 1000.0
        self.redis = Redis()
        self.admission = Admission(
            Authenticator.with_secret(SECRET, "gateway"),
            AdmissionLimits(**limits),
            self.redis,
            recheck_seconds=0.001,
            monotonic=lambda: self.now,
        )

    def ask(self, token: str | None = None, address: str = "192.0.2.1") -> Caller:
        return self.admission.caller(asking(signed() if token is None else token, address))

    async def rechecked(self) -> None:
        """Return once everything was looked at again, with what is known by now."""
        async with asyncio.timeout(10):
            for _ in range(2):
                self.redis.asked.clear()
                await self.redis.asked.wait()


@pytest.fixture
async def scene() -> Any:
    """One whose work beside requests runs."""
    scene = Scene()
    running = asyncio.create_task(scene.admission.run())
    yield scene
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_a_subject_that_asks_more_than_its_rate_is_told_when_to_come_back() -> None:
    scene = Scene(requests_per_subject=2)
    for _ in range(2 * spending.BURST_SECONDS):
        assert scene.ask().owner == "alice"

    with pytest.raises(RateLimited) as refused:
        scene.ask()
    assert refused.value.retry_after_seconds == 0.5
    assert scene.ask(signed("bob")).owner == "bob"
    scene.now += 0.5
    scene.ask()


def test_an_address_that_asks_more_than_its_rate_is_refused_whatever_it_brings() -> None:
    scene = Scene(requests_per_address=1)
    for _ in range(BURST_SECONDS):
        scene.ask()

    for token in (signed(), signed("bob"), "junk"):
        with pytest.raises(RateLimited):
            scene.ask(token)
    scene.ask(address="192.0.2.2")


def test_creates_have_a_rate_of_their_own_and_a_batch_counts_by_its_files() -> None:
    scene = Scene(creates_per_subject=1)
    scene.admission.creating(ALICE, 2 * BURST_SECONDS)

    with pytest.raises(RateLimited) as refused:
        scene.admission.creating(ALICE)
    assert refused.value.retry_after_seconds == BURST_SECONDS + 1


def test_no_token_is_no_bad_token() -> None:
    scene = Scene(bad_tokens_per_address_minute=1)
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            scene.admission.caller(asking(None))

    scene.ask()


def test_after_too_many_bad_tokens_an_address_is_heard_with_known_ones_only() -> None:
    scene = Scene(bad_tokens_per_address_minute=20)
    known = signed()
    scene.ask(known)
    for number in range(20):
        with pytest.raises(TokenInvalid):
            scene.ask(f"junk {number}")

    for unheard in ("junk", signed("bob")):
        with pytest.raises(RateLimited) as refused:
            scene.ask(unheard)
        assert refused.value.retry_after_seconds == pytest.approx(3)
    assert scene.ask(known).owner == "alice"
    assert scene.ask(signed("bob"), "192.0.2.2").owner == "bob"
    scene.now += 3.1
    assert scene.ask(signed("bob")).owner == "bob"


def test_whoever_is_turned_away_is_whoever_would_be_refused() -> None:
    scene = Scene(bad_tokens_per_address_minute=1)
    known = signed()
    scene.ask(known)
    with pytest.raises(TokenInvalid):
        scene.ask("junk")

    def turned_away(text: bytes | None, address: str = "192.0.2.1") -> RateLimited | None:
        headers = {} if text is None else {b"authorization": text}
        return scene.admission.turned_away({"client": (address, 5)}, headers)

    refusal = turned_away(b"Bearer " + signed("bob").encode())
    assert refusal is not None
    assert refusal.retry_after_seconds == pytest.approx(60)
    for text in (None, b"Basic YTpi", b"Bearer " + known.encode()):
        assert turned_away(text) is None
    assert turned_away(b"Bearer junk", "192.0.2.2") is None
    scene.now += 60.1
    assert turned_away(b"Bearer junk") is None


def test_addresses_of_one_ipv6_network_are_one_address() -> None:
    scene = Scene(bad_tokens_per_address_minute=1, requests_per_address=0.2)
    with pytest.raises(TokenInvalid):
        scene.ask("junk", "2001:db8::1")

    with pytest.raises(RateLimited, match="bad tokens"):
        scene.ask("junk", "2001:db8::2")
    with pytest.raises(RateLimited, match="More was asked for"):
        scene.ask(signed(), "2001:db8::3")
    assert scene.ask(signed(), "2001:db8:0:1::1").owner == "alice"


def test_an_expired_token_is_no_guess() -> None:
    scene = Scene(bad_tokens_per_address_minute=1)
    for _ in range(5):
        with pytest.raises(TokenExpired):
            scene.ask(signed(exp=int(time.time()) - 60))


def test_a_websocket_counts_like_any_request() -> None:
    scene = Scene(bad_tokens_per_address_minute=1)

    def offering(token: str) -> HTTPConnection:
        offered = ["gateway.v1", f"bearer.{token}"]
        return HTTPConnection({"type": "websocket", "headers": [], "client": ("192.0.2.1", 5), "subprotocols": offered})

    caller, selected = scene.admission.watcher(offering(signed()))
    assert (caller.owner, selected) == ("alice", "gateway.v1")
    with pytest.raises(TokenInvalid):
        scene.admission.watcher(offering("junk"))
    with pytest.raises(RateLimited):
        scene.admission.watcher(offering("junk"))


@pytest.mark.parametrize("missed", [TaskNotFound, BatchNotFound])
def test_whoever_names_too_many_ids_that_are_not_there_hears_429_instead(missed: type[Exception]) -> None:
    scene = Scene(unknown_ids_per_subject_minute=2)

    def miss() -> None:
        with scene.admission.looking_up(ALICE):
            raise missed

    for _ in range(2):
        with pytest.raises(missed):
            miss()
    with pytest.raises(RateLimited):
        miss()
    with scene.admission.looking_up(ALICE):
        pass  # what is there is found all the same


async def test_a_revoked_subject_is_refused_with_tokens_of_before_and_let_in_with_newer_ones(scene: Scene) -> None:
    now = int(time.time())
    old, last, new = (signed(iat=now - ago) for ago in (20, 10, 0))
    scene.redis.revoked = {"alice": now - 10}
    await scene.rechecked()

    for token in (old, last, signed()):
        with pytest.raises(TokenInvalid):
            scene.ask(token)
    assert scene.ask(new).owner == "alice"
    assert scene.ask(signed("bob")).owner == "bob"


async def test_s4_a_key_of_a_token_from_before_the_revocation_is_refused_whenever_it_was_issued(scene: Scene) -> None:
    now, places = time.time(), Destinations((Destination("files", Bucket("files-1250000000", "ap-guangzhou"), ""),))
    ahead = now + 3000  # when the process that issues it has not heard yet, or its clock is wrong
    issuer = KeyIssuer(Sealer.derive_from_secret(SECRET), places, lambda: ahead)
    scene.redis.revoked = {"alice": now}
    await scene.rechecked()

    for issued_at, is_refused in ((0.0, True), (now - 10, True), (now, True), (now + 1, False)):
        key = issuer.issue(Caller("alice", Policy(), ahead + 60, issued_at), None, None, 60)
        opened = issuer.open(key.tmp_secret_id, key.session_token).caller
        with pytest.raises(TokenInvalid) if is_refused else nullcontext():
            scene.admission.admit(opened, "PUT")


async def test_s4_who_was_revoked_a_moment_ago_is_found_by_asking_redis() -> None:
    scene = Scene()
    scene.redis.revoked = {"alice": time.time()}

    assert scene.ask().owner == "alice", "this process has not looked yet"
    with pytest.raises(TokenInvalid):
        await scene.admission.require_unrevoked(ALICE)
    await scene.admission.require_unrevoked(Caller("alice", Policy(), 2e9, time.time() + 1))
    await scene.admission.require_unrevoked(Caller("bob", Policy(), 2e9))
    scene.redis.revoked = None
    with pytest.raises(StateStoreUnavailable):
        await scene.admission.require_unrevoked(ALICE)


async def test_s17_nothing_is_changed_until_redis_has_told_once_who_was_revoked() -> None:
    scene = Scene(requests_per_subject=1)
    for revoked in (None, dict[str, float]()):
        scene.redis.revoked = revoked
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            with pytest.raises(StateStoreUnavailable):
                scene.admission.admit(ALICE, method)
        assert scene.admission.admit(ALICE, "GET") == scene.admission.admit(ALICE, "HEAD") == ALICE
        scene.now += BURST_SECONDS

    scene.redis.revoked = None
    await scene.admission.look()
    with pytest.raises(StateStoreUnavailable) as refused:
        scene.admission.admit(ALICE, "PUT")
    assert (refused.value.retryable, refused.value.retry_after_seconds) == (True, 1)
    scene.redis.revoked = {}
    await scene.admission.look()
    scene.redis.revoked = None
    await scene.admission.look()
    assert scene.admission.admit(ALICE, "PUT") == ALICE, "once it was told, what is known holds"


async def test_s17_redis_is_asked_often_until_it_has_told_once() -> None:
    redis = Redis()
    redis.revoked = None
    admission = Admission(Authenticator.with_secret(SECRET, "gateway"), revocations=redis, recheck_seconds=60)
    running = asyncio.create_task(admission.run())
    async with asyncio.timeout(10):
        await redis.asked.wait()
        redis.asked.clear()
        await redis.asked.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_who_was_revoked_stays_so_while_redis_is_silent(scene: Scene) -> None:
    scene.redis.revoked = {"alice": time.time() + 10}
    await scene.rechecked()
    scene.redis.revoked = None
    await scene.rechecked()

    with pytest.raises(TokenInvalid):
        scene.ask()


@pytest.mark.parametrize("why", ["revoked", "expired"])
async def test_a_body_under_way_ends_when_its_token_is_good_no_more(scene: Scene, why: str) -> None:
    expires = time.time() - 60 if why == "expired" else 2e9
    mallory, scope = Caller("mallory", Policy(), expires), dict[str, Any]()
    if why == "revoked":
        scene.redis.revoked = {"mallory": time.time()}

    with scene.admission.receiving(mallory, scope), scene.admission.receiving(ALICE, others := dict[str, Any]()):
        await scene.rechecked()

        assert isinstance(refusal_of(scope), TokenInvalid if why == "revoked" else TokenExpired)
        assert refusal_of(others) is None


def test_knowing_a_caller_again_costs_a_few_microseconds() -> None:
    scene, asked = Scene(), asking(signed())
    scene.admission = Admission(Authenticator.with_secret(SECRET, "gateway"), AdmissionLimits(1e9, 1e9))

    def took() -> Iterator[float]:
        for _ in range(5):
            before = time.perf_counter()
            for _ in range(1000):
                scene.admission.caller(asked)
            yield (time.perf_counter() - before) / 1000

    assert min(took()) < 30e-6
