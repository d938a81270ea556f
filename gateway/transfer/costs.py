"""What requests cost beyond being one: tasks that are loaded, calls to COS that only look, ids that are guessed.

Each owner has a share of everything. ``web.spending`` keeps it.
"""

from typing import Final, Protocol

ROWS_LIKE_A_TASK: Final = 8
"""So many parts, or rows of a list of COS's, cost as much as one task that is loaded."""


class Costs(Protocol):
    """Spends from an owner's share. What raises RateLimited does so before the work; what does not makes a debt."""

    def load(self, owner: str, tasks: int) -> None:
        """*tasks* are about to be loaded for *owner*. Raises RateLimited."""

    def loaded(self, owner: str, tasks: int) -> None:
        """*tasks* were loaded for *owner*, which nobody knew beforehand."""

    def look(self, owner: str) -> None:
        """COS is about to be asked for *owner* what it holds: HEAD, or one page of a list. Raises RateLimited."""

    def may_look(self, owner: str) -> None:
        """Raise what ``look`` would, and spend nothing: nobody knows yet for how many pages."""

    def looked(self, owner: str, pages: int = 1) -> None:
        """COS was asked for so many pages that nobody knew of beforehand."""

    def guess(self, owner: str) -> None:
        """COS is about to be asked for an id that Redis does not know. Raises RateLimited after too many ``missed``."""

    def missed(self, owner: str) -> None:
        """*owner* named an id of nothing, or of somebody else's. Raises RateLimited, instead of what it would hear."""


class NoCosts:
    """Costs that nobody counts."""

    def load(self, owner: str, tasks: int) -> None:
        """Nothing."""

    def loaded(self, owner: str, tasks: int) -> None:
        """Nothing."""

    def look(self, owner: str) -> None:
        """Nothing."""

    def may_look(self, owner: str) -> None:
        """Nothing."""

    def looked(self, owner: str, pages: int = 1) -> None:
        """Nothing."""

    def guess(self, owner: str) -> None:
        """Nothing."""

    def missed(self, owner: str) -> None:
        """Nothing."""


NO_COSTS: Final = NoCosts()
