from pathlib import Path

import pytest

from gateway.serving.memory import fitted, memory_limit_bytes
from tests.test_app import settings

MIB = 1 << 20


@pytest.mark.parametrize("name", ["sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"])
def test_the_limit_of_a_container_is_found(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text("167772160\n")

    assert memory_limit_bytes(tmp_path) == 160 * MIB


def test_no_limit_is_none(tmp_path: Path) -> None:
    assert memory_limit_bytes(tmp_path) is None
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert memory_limit_bytes(tmp_path) is None


@pytest.mark.parametrize(
    ("limit", "workers", "budget"),
    [
        (None, 1, 256),
        (1024, 1, 256),
        (192, 1, 32),
        (384, 2, 32),
        (256, 1, 64),
        (640, 1, 256),
        (64, 1, 1),
        (9223372036854771712 // MIB, 1, 256),
    ],
)
def test_b14_the_budget_for_parts_fits_into_the_memory_there_is(limit: int | None, workers: int, budget: int) -> None:
    given = settings(workers=workers)

    assert fitted(given, None if limit is None else limit * MIB).replay_budget_bytes == budget * MIB
