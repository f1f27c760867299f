"""Runs a target of tasks.py, as the Makefile does: `python -m falconry deploy`."""

import runpy
import signal

# Ctrl-C while modules are imported ends this without a traceback; see targets.py for later.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
runpy.run_module("invoke", run_name="__main__", alter_sys=True)
