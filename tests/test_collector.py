import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from gateway.collector import let_go

_COUNT_LOOKED_AT = """
import gc
import gateway.app
from gateway.collector import leave_what_stays

%s
kept = [[] for _ in range(1000)]
print(len(gc.get_objects()), gc.get_threshold()[0])
gc.collect()
cycle = []
cycle.append(cycle)
del cycle
print(gc.collect())
"""


def _looked_at(first: str) -> list[int]:
    """Objects that a full collection looks at, the threshold, and what it frees of one new cycle."""
    ended = subprocess.run([sys.executable, "-c", _COUNT_LOOKED_AT % first], capture_output=True, text=True, check=True)
    return [int(word) for word in ended.stdout.split()]


@pytest.mark.parametrize(("first", "least", "most"), [("", 50_000, 10**7), ("leave_what_stays()", 1000, 5000)])
def test_the_collector_looks_at_what_came_after_the_start_alone(first: str, least: int, most: int) -> None:
    looked_at, threshold, freed = _looked_at(first)

    assert least < looked_at < most
    assert (threshold > 700) == bool(first)
    assert freed == 1


class _Body:
    """Something large."""


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("how", ["itself", "cause", "context"])
def test_what_the_frames_of_an_error_hold_is_free_once_it_is_let_go(how: str) -> None:
    held: list[weakref.ref[_Body]] = []
    kept: list[BaseException] = []

    def read() -> None:
        body = _Body()
        held.append(weakref.ref(body))
        raise KeyError

    try:
        try:
            read()
        except KeyError as error:
            if how == "itself":
                raise
            if how == "cause":
                raise ValueError from error
            raise ValueError  # noqa: B904 -- the context is what is tested
    except (KeyError, ValueError) as error:
        error.__cause__ = error.__cause__ or error  # a ring, as careless code makes one
        kept.append(error)
    assert held[0]() is not None

    let_go(kept[0])

    assert held[0]() is None
