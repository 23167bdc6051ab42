"""Runs a script or `-m module` as python would, in a process that ends with its parent."""

import runpy
import sys
from pathlib import Path

from hidream_server.ipc.lifetime import die_with_parent


def main() -> None:
    die_with_parent()
    if sys.argv[1] == "-m":
        sys.argv = sys.argv[2:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        return
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
