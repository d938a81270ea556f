"""Who asks, and whether they may ask now: tokens, how often subjects and addresses may call, and who was revoked.

Everything here is this process's own and costs microseconds: who asks too much hears so before Redis or COS do.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from starlette.requests import HTTPConnection, Request

from gateway.audit import AuditEvent, audit, note_caller
from gateway.domain.errors import (
    BatchNotFound,
    GatewayError,
    RateLimited,
    StateStoreUnavailable,
    TaskNotFound,
    TokenExpired,
    TokenInvalid,
    Unauthenticated,
)
from gateway.domain.policy import Caller
from gateway.domain.pseudonyms import pseudonym_of
from gateway.transfer.memory_budget import Lease
from gateway.transfer.ports import Clock, Revocations
from gateway.transfer.process_memory import USUAL_BYTES, ProcessMemory
from gateway.web.auth import LEEWAY_SECONDS, Authenticator, bearer_token, offered_token
from gateway.web.bad_proofs import BadProofs
from gateway.web.client_address import address_of
from gateway.web.kept_body import KeptBody
from gateway.web.receptions import Reception, Receptions
from gateway.web.spending import Spending, spend, steady
from gateway.web.strangers import Strangers
from gateway.web.unsent_answer import note_owner

BURST_SECONDS: Final = 10
"""So many seconds' worth of new tasks, or of an address's requests, may come at once."""
_READING: Final = frozenset({"GET", "HEAD"})
_FIRST_LOOK_SECONDS: Final = 1.0
"""How often Redis is asked who was revoked until it has told once."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What this process takes at most; rates are a second's unless they say otherwise, and 0 bounds nothing.

    ``requests_per_subject`` are units of cost: see ``Spending``.
    """

    requests_per_subject: float = 100
    requests_per_address: float = 0
    creates_per_subject: float = 100
    bad_tokens_per_address_minute: float = 20
    unknown_ids_per_subject_minute: float = 60
    looks_per_subject: float = 50
    bodies: int = 1024
    bodies_per_subject: int = 512


class Admission:
    """Lets callers in. ``run`` must run as long as the process serves.

    Args:
        revocations: who was revoked, and when; without it nobody is.
        recheck_seconds: how often that is read, and the tokens of bodies under way are looked at again.
        clock: Unix time in seconds.
        memory: what may be kept of callers, and of strangers.
    """

    def __init__(
        self,
        auth: Authenticator,
        limits: AdmissionLimits = AdmissionLimits(),
        revocations: Revocations | None = None,
        *,
        recheck_seconds: float = 15.0,
        clock: Clock = time.time,
        monotonic: Clock = time.monotonic,
        memory: ProcessMemory | None = None,
    ) -> None:
        self._auth = auth
        self._revocations = revocations
        self._recheck_seconds = recheck_seconds
        self._clock = clock
        self.memory = memory or ProcessMemory.of(USUAL_BYTES)
        self.strangers = Strangers(self.memory.strangers)
        self._revoked: Mapping[str, float] = {}
        self._has_looked = False
        bad, unknown = limits.bad_tokens_per_address_minute, limits.unknown_ids_per_subject_minute
        self.spending = Spending(limits.requests_per_subject, limits.looks_per_subject, unknown, monotonic)
        self._addresses = steady(limits.requests_per_address, monotonic, BURST_SECONDS)
        self._creates = steady(limits.creates_per_subject, monotonic, BURST_SECONDS)
        self.bad_proofs = BadProofs(bad, monotonic)
        self.receptions = Receptions(limits.bodies, limits.bodies_per_subject)

    def arriving(self, scope: Mapping[str, Any]) -> str:
        """The client's address, or its IPv6 network, whose one more request *scope* is. Raises RateLimited."""
        address = address_of(scope)
        spend(self._addresses, address)
        return address

    def turned_away(self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> RateLimited | None:
        """The refusal of a request whose token is one too many from its address, None for any other request.

        ``caller`` would refuse it too; asked before the routes are, this makes a flood of them cheaper.
        """
        authorization = headers.get(b"authorization")
        if authorization is None or not len(self.bad_proofs):
            return None
        try:
            self._require_heard(bearer_token(authorization.decode("latin-1")), address_of(scope))
        except Unauthenticated:
            return None
        except RateLimited as refusal:
            return refusal
        return None

    def caller(self, request: HTTPConnection) -> Caller:
        """Who sends *request*, by its bearer token.

        Raises:
            Unauthenticated, TokenInvalid, TokenExpired: no token that is good.
            RateLimited: the subject, or the address, asks too often.
        """
        address = self.arriving(request.scope)
        caller = self._verified(bearer_token(request.headers.get("authorization")), address)
        note_owner(request.scope, caller.owner)
        return self.admit(caller, request.scope.get("method", "GET"))

    def watcher(self, websocket: HTTPConnection) -> tuple[Caller, str | None]:
        """Who opens *websocket*, by its subprotocols, and which of these to select. Raises as ``caller``."""
        address = self.arriving(websocket.scope)
        token, selected = offered_token(websocket.scope["subprotocols"])
        return self.admit(self._verified(token, address), "GET"), selected

    def admit(self, caller: Caller, method: str) -> Caller:
        """*caller*, whose one more request, by *method*, this is.

        Raises:
            RateLimited: the subject asks too often.
            TokenInvalid: the subject, or the token, was revoked.
            StateStoreUnavailable: it would change something, and Redis has never told yet who was revoked.
        """
        note_caller(caller)
        if self._revoked and self.is_revoked(caller):
            raise TokenInvalid
        self.spending.ask(caller.owner)
        if self._revocations is not None and not self._has_looked and method not in _READING:
            raise StateStoreUnavailable(
                "Redis has not told yet who was revoked.", retry_after_seconds=_FIRST_LOOK_SECONDS
            )
        return caller

    def creating(self, caller: Caller, count: int = 1) -> None:
        """Note that *caller* creates *count* tasks ahead of their bytes, 0 before that is known. Raises RateLimited."""
        spend(self._creates, caller.owner, count)

    @contextmanager
    def looking_up(self, caller: Caller) -> Iterator[None]:
        """Bound how often *caller* may name ids that are not theirs: then RateLimited instead of the 404."""
        try:
            yield
        except (TaskNotFound, BatchNotFound):
            self.spending.missed(caller.owner)
            raise

    def receiving(self, caller: Caller, scope: MutableMapping[str, Any]) -> AbstractContextManager[Reception]:
        """Receive the body of the request *scope*; see ``Receptions.receiving``."""
        return self.receptions.receiving(caller, scope)

    def unproved(self, scope: Mapping[str, Any]) -> AbstractContextManager[Lease]:
        """Read of the request *scope* what tells who sends it; see ``Strangers.receiving``."""
        return self.strangers.receiving(address_of(scope))

    @contextmanager
    def keeping(self, caller: Caller, request: Request) -> Iterator[KeptBody]:
        """Keep the body of *request* whole, and what is made of it, as long as the block runs."""
        with self.memory.callers.open(caller.owner) as lease:
            yield KeptBody(
                request,
                lease,
                lambda: self.receiving(caller, request.scope),
                partial(self.spending.parsing, caller.owner),
            )

    def is_revoked(self, caller: Caller) -> bool:
        """Whether the caller's token was issued before it, or its subject, was revoked."""
        revoked = self._revoked
        if not revoked:
            return False  # nobody is: names need not be hashed for every message
        return any(caller.issued_at <= revoked[name] for name in caller.revocable_names if name in revoked)

    async def require_unrevoked(self, caller: Caller) -> None:
        """Ask Redis itself before *caller* gets what outlives this request: ``run`` may not have heard yet.

        Raises:
            TokenInvalid: the subject, or the token, was revoked.
            StateStoreUnavailable: Redis does not tell.
        """
        if self._revocations is None:
            return
        until = await self._revocations.revoked_until(caller.revocable_names)
        if until is not None and caller.issued_at <= until:
            raise TokenInvalid

    async def run(self) -> None:
        """Learn, again and again, who was revoked, and end the bodies of those and of tokens that have run out."""
        while True:
            await self.look()
            self.receptions.judge(self._objection)
            waits = self._revocations is not None and not self._has_looked
            await asyncio.sleep(min(_FIRST_LOOK_SECONDS, self._recheck_seconds) if waits else self._recheck_seconds)

    async def look(self) -> None:
        """Learn who was revoked, if Redis tells."""
        if self._revocations is None:
            return
        try:
            self._learn(await self._revocations.load())
        except StateStoreUnavailable:
            _log.warning("redis does not tell who was revoked; those known before stay so")

    def _learn(self, revoked: Mapping[str, float]) -> None:
        """From now on *revoked* counts; what is new in it is written down, but for what was there at the start."""
        known, self._revoked = self._revoked, revoked
        if self._has_looked:
            for name in (name for name, until in revoked.items() if known.get(name) != until):
                audit(AuditEvent.REVOKED, revoked=pseudonym_of(name), until=revoked[name])
        self._has_looked = True

    def _objection(self, caller: Caller) -> GatewayError | None:
        if self.is_revoked(caller):
            return TokenInvalid()
        return TokenExpired() if caller.expires_at + LEEWAY_SECONDS <= self._clock() else None

    def _verified(self, token: str, address: str) -> Caller:
        self._require_heard(token, address)
        try:
            return self._auth.caller_of(token)
        except TokenInvalid:
            self.bad_proofs.note(address)
            raise

    def _require_heard(self, token: str, address: str) -> None:
        """Refuse *token* where too many bad ones came from, unless it was good before. Raises RateLimited."""
        self.bad_proofs.require_heard(address, is_known=self._auth.knows(token))
