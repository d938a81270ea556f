"""Runs a module of Python's without the cyclic garbage collector: ``python without_collector.py PYTHON -m …``."""

import gc
import os
import runpy
import sys

gc.disable()
_, _, _, module, *arguments = sys.argv
sys.path[0] = os.getcwd()
sys.argv = [module, *arguments]
runpy.run_module(module, run_name="__main__", alter_sys=True)
