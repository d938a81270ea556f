"""The first bytes of a file, looked at before any of them goes on to COS."""

from collections.abc import AsyncIterator, Callable, Mapping

from gateway.domain.policy import Caller, Destination
from gateway.domain.signatures import PEEK_BYTES, stored_type
from gateway.transfer.first_chunks import chained, read_first


class TypeLook:
    """Looks at one file, which may come in several bodies, and learns under which type it is to be stored.

    Args:
        content_type: what it is said to be; None where nobody knows any more.
    """

    def __init__(self, caller: Caller, place: Destination, content_type: str | None) -> None:
        self._caller = caller
        self._place = place
        self._content_type = content_type
        self.headers: Mapping[str, str] = {}
        """The object header that puts the type right; empty where it was said as it is."""

    def judge(self, head: bytes) -> None:
        """Look at the file's first ``PEEK_BYTES``, or at all of it. Raises TypeMismatch."""
        stored = stored_type(
            self._content_type, head[:PEEK_BYTES], lambda name: self._caller.takes_type(self._place, name)
        )
        self.headers = {} if stored == self._content_type or stored is None else {"content-type": stored}

    async def watched(
        self, source: AsyncIterator[bytes], *, before: bytes = b"", ends_file: Callable[[int], bool] = lambda size: True
    ) -> AsyncIterator[bytes]:
        """*source*, once what is known of the file's begin with it may go on.

        A body that ends before ``PEEK_BYTES`` of the file are known, and is not its end, goes on unjudged: it becomes
        the tail, of which COS hears together with what follows.

        Args:
            before: the bytes of the file that came before *source*, ``PEEK_BYTES`` of them at most.
            ends_file: whether a body of so many bytes ends the file.
        Raises:
            TypeMismatch: nothing of *source* was passed on.
        """
        missing = PEEK_BYTES - len(before)
        held = await read_first(source, missing) if missing > 0 else []
        size = sum(map(len, held))
        if size >= missing or ends_file(size):
            self.judge(before + b"".join(held))
        async for piece in chained(held, source):
            yield piece
            del piece


async def peek(source: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes]]:
    """The first ``PEEK_BYTES`` of *source*, or all of it, and *source* from its first byte on."""
    held = await read_first(source, PEEK_BYTES)
    return b"".join(held)[:PEEK_BYTES], chained(held, source)
