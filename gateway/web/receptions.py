"""The bodies that are being received: how many at once, in all and of one subject, and what ends one before its end."""

from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Final

from gateway.domain.errors import GatewayError, Overloaded, TooManyUploads
from gateway.domain.policy import Caller

RETRY_SECONDS: Final = 1.0
_KEY: Final = "gateway.reception"


class Reception:
    """One body on its way in. Whoever reads it raises ``refusal`` once there is one."""

    __slots__ = ("caller", "refusal")

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.refusal: GatewayError | None = None


class Receptions:
    """Counts bodies, and refuses those over the limits before a byte of them is read: nothing queues.

    Args:
        most: bodies at once in this process.
        most_per_subject: bodies at once of one subject.
    """

    def __init__(self, most: int, most_per_subject: int) -> None:
        self._most = most
        self._most_per_subject = most_per_subject
        self._of_subject: Counter[str] = Counter()
        self._open: set[Reception] = set()

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def receiving(self, caller: Caller, scope: MutableMapping[str, Any]) -> Iterator[Reception]:
        """Receive the body of the request *scope* while the block runs.

        Raises:
            TooManyUploads: the subject has as many under way as it may.
            Overloaded: this process has.
        """
        owner = caller.owner
        if self._of_subject.get(owner, 0) >= self._most_per_subject:
            detail = f"The subject has {self._most_per_subject} bodies under way, the most there may be."
            raise TooManyUploads(detail, retry_after_seconds=RETRY_SECONDS)
        if len(self._open) >= self._most:
            detail = f"This server receives {self._most} bodies, the most it takes at once."
            raise Overloaded(detail, retry_after_seconds=RETRY_SECONDS)
        reception = Reception(caller)
        self._open.add(reception)
        self._of_subject[owner] += 1
        scope[_KEY] = reception
        try:
            yield reception
        finally:
            self._open.discard(reception)
            self._of_subject[owner] -= 1
            if not self._of_subject[owner]:
                del self._of_subject[owner]

    def judge(self, objection: Callable[[Caller], GatewayError | None]) -> None:
        """End, at their next chunk, the bodies whose callers meet an *objection* by now."""
        for reception in self._open:
            reception.refusal = reception.refusal or objection(reception.caller)


def refusal_of(scope: MutableMapping[str, Any]) -> GatewayError | None:
    """What ends the body of the request *scope* now; None while it may go on."""
    reception: Reception | None = scope.get(_KEY)
    return None if reception is None else reception.refusal
