"""How much memory the process may use before the kernel ends it, and what of it may hold parts in flight."""

import logging
from pathlib import Path
from typing import Final

from gateway.config import Settings

log = logging.getLogger(__name__)

BASE_BYTES: Final = 96 << 20
"""What a process needs before it holds a single part, per worker."""
SHARE: Final = 0.5
"""Of the rest: as much again is what the allocator and connections may need for it."""
LEAST_BYTES: Final = 1 << 20
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


def fitted(settings: Settings, limit_bytes: int | None) -> Settings:
    """*settings* whose replay budget fits into *limit_bytes*: better a part that streams than a killed process."""
    if limit_bytes is None:
        return settings
    fixed = BASE_BYTES + settings.memory_budget_bytes
    fits = max(LEAST_BYTES, int(SHARE * (limit_bytes / settings.workers - fixed)))
    if settings.replay_budget_bytes <= fits:
        return settings
    log.warning(
        "GATEWAY_REPLAY_BUDGET_BYTES is lowered to fit the memory limit",
        extra={"budget_bytes": settings.replay_budget_bytes, "lowered_to_bytes": fits, "limit_bytes": limit_bytes},
    )
    return settings.model_copy(update={"replay_budget_bytes": fits})
