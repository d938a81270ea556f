"""Child processes that never outlive us: what `dev` starts, it also ends, even when it is killed itself."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Final

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> Callable[[], None] | None:
    """What a child runs before its program, so that it ends with us; None where the kernel has no such thing.

    The C library is looked up here, in the parent: between fork and exec nothing but plain calls is safe.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the call above
            os._exit(1)

    return in_child


async def start_child(
    *argv: str,
    env: Mapping[str, str] | None = None,
    stdout: int | IO[bytes] | None = None,
    keep: Sequence[int] = (),
) -> asyncio.subprocess.Process:
    """Start *argv* in a session of its own, so that Ctrl-C reaches us alone and we choose the order of ending.

    It inherits the descriptors *keep*.
    """
    return await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=stdout,
        stderr=asyncio.subprocess.STDOUT if stdout is not None else None,
        env=env,
        start_new_session=True,
        preexec_fn=die_with_parent(),
        pass_fds=keep,
    )


async def stop_child(process: asyncio.subprocess.Process, grace_seconds: float) -> int:
    """Ask *process* to end, insist after *grace_seconds*, and return its exit code."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    try:
        async with asyncio.timeout(grace_seconds):
            return await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return await process.wait()
