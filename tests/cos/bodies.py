"""Bodies for the client, as the relay would bring them."""

from collections.abc import AsyncIterator

from gateway.domain.checksums import crc64


class Replayable:
    """Bytes that may be read again; the CRC-64 is known once they were read."""

    replayable = True

    def __init__(self, data: bytes, chunk_size: int = 65_536) -> None:
        self.data = data
        self.chunk_size = chunk_size
        self.size = len(data)
        self.crc64 = 0
        self.reads = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        self.reads += 1
        self.crc64 = 0
        for start in range(0, len(self.data), self.chunk_size):
            chunk = self.data[start : start + self.chunk_size]
            self.crc64 = crc64(chunk, self.crc64)
            yield chunk


class Once(Replayable):
    """Bytes that come only once, and what they end with."""

    replayable = False

    def __init__(self, data: bytes, *, size: int | None = None, then: Exception | None = None) -> None:
        super().__init__(data)
        self.size = len(data) if size is None else size
        self.then = then

    async def chunks(self) -> AsyncIterator[bytes]:
        assert self.reads == 0, "read a second time"
        async for chunk in super().chunks():
            yield chunk
        if self.then is not None:
            raise self.then
