"""The heap goes back to the kernel when a burst is over, and not before."""

import subprocess
import sys
from typing import Final

import pytest

MIB: Final = 1 << 20
_BURST: Final = """
import asyncio
from gateway.heap_watch import QUIET_LOOKS, HeapWatch, _resident_bytes
from gateway.malloc import keep_large_buffers

async def main():
    keep_large_buffers()
    used = 100 << 20
    watch = HeapWatch(lambda: used)
    before = _resident_bytes()
    pieces = [bytes(bytearray(b"x" * 65536)) for _ in range(1600)]
    last = pieces[-1]
    del pieces
    for _ in range(2 * QUIET_LOOKS):
        await watch.look()
    print(_resident_bytes() - before)
    used = 0
    for _ in range(QUIET_LOOKS - 1):
        await watch.look()
    print(_resident_bytes() - before)
    await watch.look()
    print(_resident_bytes() - before)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is glibc's")
def test_s3_the_heap_is_given_back_once_a_burst_is_over() -> None:
    told = subprocess.run([sys.executable, "-c", _BURST], capture_output=True, text=True, check=True).stdout
    busy, not_yet, over = map(int, told.split())

    assert busy > 64 * MIB
    assert not_yet > 64 * MIB
    assert over < 16 * MIB
