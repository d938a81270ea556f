from pathlib import Path

import pytest

from gateway.serving.memory import BASE_BYTES, BODY_BYTES, fitted, memory_limit_bytes, shared_piece_bytes
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


@pytest.mark.parametrize(
    ("limit", "workers", "replay", "bodies", "of_one"),
    [
        (None, 1, 16, 1024, 512),
        (640, 1, 256, 1024, 512),
        (640, 1, 16, 1024, 512),
        (256, 1, 64, 550, 275),
        (256, 1, 16, 1024, 512),
        (192, 1, 256, 275, 137),
        (384, 2, 256, 275, 137),
        (64, 1, 256, 16, 8),
    ],
)
def test_s6_no_more_bodies_come_at_once_than_fit_into_the_memory_there_is(
    limit: int | None, workers: int, replay: int, bodies: int, of_one: int
) -> None:
    given = settings(workers=workers, replay_budget_bytes=replay * MIB)
    found = fitted(given, None if limit is None else limit * MIB)

    assert (found.bodies_count, found.bodies_per_subject_count) == (bodies, of_one)


@pytest.mark.parametrize("limit", [136, 160, 256, 384, 640])
def test_s6_leases_and_pieces_and_bodies_fit_into_the_limit_together(limit: int) -> None:
    found = fitted(settings(bodies_count=100_000), limit * MIB)
    leases = found.replay_budget_bytes
    bodies = shared_piece_bytes(leases) + found.bodies_count * BODY_BYTES

    assert 0 <= limit * MIB - (BASE_BYTES + found.memory_budget_bytes + leases + bodies) < BODY_BYTES


def test_s6_a_subject_that_may_have_all_bodies_may_have_all_that_fit() -> None:
    found = fitted(settings(bodies_count=1000, bodies_per_subject_count=2000), 192 * MIB)

    assert found.bodies_per_subject_count >= found.bodies_count == 275
