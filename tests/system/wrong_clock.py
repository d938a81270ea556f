"""Runs a module of Python's with a wall clock that is wrong: ``python wrong_clock.py SECONDS PYTHON -m MODULE …``."""

import datetime
import os
import runpy
import sys
import time

_OFF = float(sys.argv[1])
_TRUE = time.time
_TRUE_DATETIME = datetime.datetime


class WrongDatetime(datetime.datetime):
    """Asked for the time it is wrong as well."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "WrongDatetime":
        return cls.fromtimestamp(time.time(), tz)


time.time = lambda: _TRUE() + _OFF
datetime.datetime = WrongDatetime  # type: ignore[misc]
_, _, _, _, module, *arguments = sys.argv
sys.path[0] = os.getcwd()
sys.argv = [module, *arguments]
runpy.run_module(module, run_name="__main__", alter_sys=True)
