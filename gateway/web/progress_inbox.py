"""What one websocket has yet to be sent. A slow one is sent the latest of each task, and skips what came before."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.transfer.memory_budget import Lease, MemoryBudget
from gateway.web.progress_messages import Message

MOST_WAITING_BYTES: Final = 256 * 1024
_ENTRY_BYTES: Final = 200

Changes = Mapping[str, Message]
"""The message about each task and batch, by its id."""
NO_CHANGES: Final[Changes] = {}


class Snapshot:
    """The pages of a snapshot, held once for all who are sent them, under a lease that ends with the last of those."""

    def __init__(self, pages: Sequence[str], lease: Lease) -> None:
        self.pages: Final = pages
        self._lease = lease
        self._readers = 0

    def enter(self) -> None:
        """One more is sent them."""
        self._readers += 1

    def leave(self) -> None:
        """One has got them, or has left."""
        self._readers -= 1
        self.release_unread()

    def release_unread(self) -> None:
        """Nobody else will be sent them who is not already."""
        if not self._readers:
            self._lease.release()


class Inbox:
    """Between whoever tells and one websocket: telling never waits, and what waits here is bounded.

    Args:
        budget: what waits longer than others do takes its bytes from it; where it has none nothing waits, and the next
            snapshot makes up for it.
        owner: whose memory it is.
    """

    def __init__(self, budget: MemoryBudget, owner: str) -> None:
        self._budget = budget
        self._owner = owner
        self._lease = budget.open(owner)
        self._first: Changes = NO_CHANGES
        self._snapshot: Snapshot | None = None
        self._page = 0
        self._changes: Changes = NO_CHANGES
        self._is_behind = False
        self._failure: BaseException | None = None
        self._something = asyncio.Event()
        self.is_closed = False

    def put(self, changes: Changes) -> None:
        """Tell of *changes*, which take the place of what was told of the same tasks and has not been sent yet."""
        if self._is_behind or not changes:
            return
        if not self._changes:
            self._changes = changes
        else:
            self._changes = {**self._changes, **_instead(self._changes, changes)}
            self._is_behind = not self._afford()
            if self._is_behind:
                self._changes = NO_CHANGES
                self._let_go()
        self._something.set()

    def show(self, snapshot: Snapshot, losses: Changes, news: Changes) -> None:
        """Send *snapshot* behind *losses*; while an earlier one is being sent *news* make up for it."""
        if self._snapshot is not None:
            self.put(news)
            return
        self._is_behind = False
        self.put(losses)
        self._first, self._changes = self._changes, NO_CHANGES
        self._snapshot, self._page = snapshot, 0
        snapshot.enter()
        self._something.set()

    def wake(self, failure: BaseException | None = None) -> None:
        """Let the websocket look around; *failure* ends it."""
        self._failure = self._failure or failure
        self._something.set()

    def require_sound(self) -> None:
        """Raise the failure of whoever tells, if there was one."""
        if self._failure is not None:
            raise self._failure

    async def next(self) -> list[str]:
        """What to send now: waits for it, and lets go of what was returned before. Empty when woken for nothing.

        Raises:
            the failure of whoever tells.
        """
        self._let_go()
        if not (self._first or self._snapshot or self._changes):
            await self._something.wait()
        self._something.clear()
        self.require_sound()
        if self._first:
            self._first, texts = NO_CHANGES, _texts(self._first)
        elif self._snapshot is not None:
            texts = [self._snapshot.pages[self._page]]
            self._page += 1
        else:
            self._changes, texts = NO_CHANGES, _texts(self._changes)
        return texts

    def close(self) -> None:
        """Hold nothing any more."""
        self.is_closed = True
        self._first = self._changes = NO_CHANGES
        if self._snapshot is not None:
            self._page = len(self._snapshot.pages)
        self._let_go()

    def _let_go(self) -> None:
        if self._snapshot is not None and self._page == len(self._snapshot.pages):
            self._snapshot.leave()
            self._snapshot = None
        if not self._first and not self._changes:
            self._lease.release()

    def _afford(self) -> bool:
        """Have a lease for all that waits; False when there is none."""
        waiting = [*self._first.values(), *self._changes.values()]
        size = sum(len(message.text) + _ENTRY_BYTES for message in waiting)
        more = self._budget.try_take(size, self._owner) if size <= MOST_WAITING_BYTES else None
        if more is None:
            return False
        self._lease.release()
        self._lease = more
        return True


def _instead(earlier: Changes, changes: Changes) -> Changes:
    return {about: message.instead_of(earlier.get(about)) for about, message in changes.items()}


def _texts(changes: Changes) -> list[str]:
    return [message.text for message in changes.values()]
