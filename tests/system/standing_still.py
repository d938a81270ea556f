"""Runs a module of Python's that stands still when SIGUSR2 comes: ``python standing_still.py SECONDS PYTHON -m …``."""

import os
import runpy
import signal
import sys
import time

_SECONDS = float(sys.argv[1])


def stand_still(*_: object) -> None:
    """A handler of Python's runs in the main thread: nothing else does there meanwhile, and no event loop turns."""
    time.sleep(_SECONDS)


signal.signal(signal.SIGUSR2, stand_still)
_, _, _, _, module, *arguments = sys.argv
sys.path[0] = os.getcwd()
sys.argv = [module, *arguments]
runpy.run_module(module, run_name="__main__", alter_sys=True)
