import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from gateway.dev.child import start_child, stop_child

_PARENT = """
import asyncio, sys
from gateway.dev.child import start_child

async def main():
    child = await start_child(sys.executable, "-c", "import signal; signal.pause()")
    print(child.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
_DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"


async def test_a_child_ends_when_it_is_asked_to() -> None:
    child = await start_child(sys.executable, "-c", "import signal; signal.pause()")

    assert await stop_child(child, grace_seconds=10) == -signal.SIGTERM


async def test_a_child_that_does_not_listen_is_killed_after_its_grace() -> None:
    child = await start_child(sys.executable, "-c", _DEAF, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    assert await child.stdout.readline() == b"deaf\n"

    assert await stop_child(child, grace_seconds=0.05) == -signal.SIGKILL


async def test_stopping_a_child_that_has_ended_returns_its_code() -> None:
    child = await start_child(sys.executable, "-c", "raise SystemExit(7)")
    await child.wait()

    assert await stop_child(child, grace_seconds=1) == 7


async def test_ctrl_c_in_our_terminal_does_not_reach_the_child() -> None:
    child = await start_child(sys.executable, "-c", "import signal; signal.pause()")
    try:
        assert os.getpgid(child.pid) != os.getpgid(0)
    finally:
        await stop_child(child, grace_seconds=10)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has died")
async def test_a_child_ends_even_when_its_parent_is_killed() -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PARENT),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    descriptor = os.pidfd_open(pid)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, ended.set)

    parent.kill()
    await parent.wait()

    async with asyncio.timeout(10):
        await ended.wait()
    asyncio.get_running_loop().remove_reader(descriptor)
    os.close(descriptor)
