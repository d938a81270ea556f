import resource
import subprocess
import sys

import pytest

from gateway.malloc import keep_large_buffers

_BUFFER_BYTES = 1 << 20
_BUFFERS = 64
_ROUNDS = 10
_COUNT_FAULTS = f"""
import resource
from gateway.malloc import keep_large_buffers

def fill():
    [b"x" * {_BUFFER_BYTES} for _ in range({_BUFFERS})]

%s
for _ in range(3):
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({_ROUNDS}):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _page_faults(first: str) -> int:
    """How many it costs to fill and drop 64 MiB of buffers ten times, after *first*, in a process of its own."""
    argv = [sys.executable, "-c", _COUNT_FAULTS % first]
    return int(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_large_buffers_are_kept_instead_of_given_back_each_time() -> None:
    pages = _BUFFERS * _BUFFER_BYTES // resource.getpagesize()

    assert _page_faults("") > _ROUNDS * pages / 2
    assert _page_faults("keep_large_buffers()") < pages


def test_without_mallopt_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(name: str | None) -> object:
        raise OSError("there is no such library")

    monkeypatch.setattr("gateway.malloc.ctypes.CDLL", no_library)

    assert keep_large_buffers() is False
