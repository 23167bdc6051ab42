"""Faults that a test plants in the ranks of a server; python imports this file at every start.

FAULT says what goes wrong and FAULT_FOLDER where it is noted that it has, so that it does once.
"""

import importlib.abc
import importlib.machinery
import os
import sys
from pathlib import Path

_FAULT = os.environ.get("FAULT", "")
_RANK = os.environ.get("RANK")


class _AfterImport(importlib.abc.MetaPathFinder):
    """Changes a module when it has been imported."""

    def __init__(self, name, change):
        self._name, self._change = name, change

    def find_spec(self, name, path, target=None):
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        loader = spec.loader
        really_run = loader.exec_module

        def run(module):
            really_run(module)
            self._change(module)

        loader.exec_module = run
        return spec


def _raise_once(module):
    """Let the network raise, once in the life of a test: later than loading calls it."""
    right, calls = module.Network.__call__, [0]

    def call(self, *arguments, **how):
        calls[0] += 1
        done = Path(os.environ["FAULT_FOLDER"]) / "raised"
        if calls[0] == 40 and not done.exists():
            done.touch()
            raise RuntimeError("the device does not answer")
        return right(self, *arguments, **how)

    module.Network.__call__ = call


def _die_of_poison(module):
    """Let a prompt end the process at once, as a fault in a driver does."""
    right = module.ModelRunner.begin

    def begin(self, params):
        if params.prompt == "poison":
            os._exit(9)
        return right(self, params)

    module.ModelRunner.begin = begin


def _break_down(module):
    """Let the server make a mistake when it has something to do."""

    async def next_task(self):
        if await self._claim() is not None:
            raise RuntimeError("a mistake")

    module.Admission.next_task = next_task


if _RANK is None and _FAULT == "mistake":
    sys.meta_path.insert(0, _AfterImport("hidream_server.engine.admission", _break_down))
if _RANK is not None and _FAULT == "no group" and os.environ["WORLD_SIZE"] != "1":
    sys.exit("the cards cannot see each other")
if _RANK == "1" and _FAULT == "raise":
    sys.meta_path.insert(0, _AfterImport("hidream_server.parallel.network", _raise_once))
if _RANK is not None and _FAULT == "poison":
    sys.meta_path.insert(0, _AfterImport("hidream_server.worker.model_runner", _die_of_poison))
