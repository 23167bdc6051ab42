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
    """Lets the network of rank 1 raise, once in the life of a test: later than loading calls it."""

    def find_spec(self, name, path, target=None):
        if name != "hidream_server.parallel.network":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        loader, calls = spec.loader, [0]
        really_run = loader.exec_module

        def run(module):
            really_run(module)
            right = module.Network.__call__

            def call(self, *arguments):
                calls[0] += 1
                done = Path(os.environ["FAULT_FOLDER"]) / "raised"
                if calls[0] == 40 and not done.exists():
                    done.touch()
                    raise RuntimeError("the device does not answer")
                return right(self, *arguments)

            module.Network.__call__ = call

        loader.exec_module = run
        return spec


if _RANK is not None and _FAULT == "no group" and os.environ["WORLD_SIZE"] != "1":
    sys.exit("the cards cannot see each other")
if _RANK == "1" and _FAULT == "raise":
    sys.meta_path.insert(0, _AfterImport())
