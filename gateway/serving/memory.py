"""How much memory the process may use before the kernel ends it, and how many bodies and parts in flight it holds."""

import logging
from pathlib import Path
from typing import Final

from gateway.config import Settings
from gateway.web.read_budget import SHARED_BYTES, SMALLEST_PIECE_BYTES

log = logging.getLogger(__name__)

BASE_BYTES: Final = 96 << 20
"""What a process needs before it holds a single part, per worker."""
SHARE: Final = 0.5
"""Of the rest: as much again is what the allocator and connections may need for it."""
LEAST_BYTES: Final = 1 << 20
BODY_BYTES: Final = 75_000 + SMALLEST_PIECE_BYTES
"""What one body under way may take besides its lease and larger pieces: its task, buffers and connections."""
LEAST_BODIES: Final = 16
_FILES: Final = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")  # version 2, version 1


def memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """The limit of the control group we are in, as a container sees it; None without one."""
    for name in _FILES:
        try:
            text = (root / name).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():
            return int(text)
    return None


def shared_piece_bytes(replay_budget_bytes: int) -> int:
    """What bodies may hold before a lease covers them: a quarter of what there is under leases, 32 MiB at most."""
    return min(SHARED_BYTES, replay_budget_bytes // 4)


def fitted(settings: Settings, limit_bytes: int | None) -> Settings:
    """*settings* that fit into *limit_bytes*: better a part that streams, or a 503, than a killed process."""
    if limit_bytes is None:
        return settings
    return _with_fewer_bodies(_with_less_to_repeat(settings, limit_bytes), limit_bytes)


def _room_bytes(settings: Settings, limit_bytes: int) -> int:
    """What a worker has for bodies."""
    return limit_bytes // settings.workers - BASE_BYTES - settings.memory_budget_bytes


def _with_less_to_repeat(settings: Settings, limit_bytes: int) -> Settings:
    fits = max(LEAST_BYTES, int(SHARE * _room_bytes(settings, limit_bytes)))
    if settings.replay_budget_bytes <= fits:
        return settings
    log.warning(
        "GATEWAY_REPLAY_BUDGET_BYTES is lowered to fit the memory limit",
        extra={"budget_bytes": settings.replay_budget_bytes, "lowered_to_bytes": fits, "limit_bytes": limit_bytes},
    )
    return settings.model_copy(update={"replay_budget_bytes": fits})


def _with_fewer_bodies(settings: Settings, limit_bytes: int) -> Settings:
    """One subject may have as large a share of them as before."""
    in_parts = settings.replay_budget_bytes + shared_piece_bytes(settings.replay_budget_bytes)
    fits = max(LEAST_BODIES, (_room_bytes(settings, limit_bytes) - in_parts) // BODY_BYTES)
    if settings.bodies_count <= fits:
        return settings
    log.warning(
        "GATEWAY_BODIES_COUNT is lowered to fit the memory limit",
        extra={"bodies": settings.bodies_count, "lowered_to": fits, "limit_bytes": limit_bytes},
    )
    of_one = max(1, settings.bodies_per_subject_count * fits // settings.bodies_count)
    return settings.model_copy(update={"bodies_count": fits, "bodies_per_subject_count": of_one})
