"""Every page of List Parts (doc 7747), one after the other, while there is time and somebody waits for the end.

``cos.wire_answers`` lets no page repeat a part or name one beyond 10,000, so that the pages themselves come to an end.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Final

from gateway.domain.errors import StorageUnavailable
from gateway.domain.objects import ObjectAddress, PartsPage, StoredPart, UploadId
from gateway.transfer.ports import ObjectStore

WALK_SECONDS: Final = 30.0
"""Ten full pages, of 1,000 parts each, take a COS that is well less than a second."""

IsWanted = Callable[[], bool]
"""Whether somebody waits for the outcome still."""

Held = tuple[StoredPart, str]
"""A part that COS holds, and when it was stored (ISO 8601)."""


def always() -> bool:
    """The outcome is wanted whoever leaves."""
    return True


CLIENT_WAITS: Final[ContextVar[IsWanted]] = ContextVar("client_waits", default=always)
"""Of the request under way. Looked at only where nothing is to be done for a client that has gone."""


class Patience:
    """How long pages are asked for: ``WALK_SECONDS`` from now on, and only while that *is_wanted*."""

    def __init__(self, is_wanted: IsWanted = always) -> None:
        self._is_wanted = is_wanted
        self._until = asyncio.get_running_loop().time() + WALK_SECONDS

    def check(self) -> None:
        """Raise StorageUnavailable once no more pages are to be asked for."""
        if not self._is_wanted():
            raise StorageUnavailable("Nobody waits for COS's list of parts any more.")
        if asyncio.get_running_loop().time() > self._until:
            raise StorageUnavailable(f"COS's list of parts did not end within {WALK_SECONDS:g} seconds.")


async def part_pages(
    objects: ObjectStore, at: ObjectAddress, upload_id: UploadId, patience: Patience | None = None
) -> AsyncIterator[PartsPage]:
    """What COS holds of the upload, page by page.

    Raises:
        UploadLost: COS does not know it.
        Storage: COS failed, its pages are none, or *patience* has ended.
    """
    patience = patience or Patience()
    marker: int | None = 0
    while marker is not None:
        patience.check()
        page = await objects.list_parts(at, upload_id, marker=marker)
        yield page
        marker = page.next_marker


async def list_held(
    objects: ObjectStore, at: ObjectAddress, upload_id: UploadId, patience: Patience | None = None
) -> list[Held]:
    """Every part that COS holds of the upload, in ascending order. Raises as ``part_pages``."""
    held: list[Held] = []
    async for page in part_pages(objects, at, upload_id, patience):
        held.extend(zip(page.parts, page.last_modified, strict=True))
    return held
