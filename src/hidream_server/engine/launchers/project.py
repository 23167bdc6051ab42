"""The one process that lets a user's HiDream-I1 project paint, and where that project is."""

import sys
from collections.abc import Iterator
from pathlib import Path

from hidream_server.errors import ProjectPathError

_SCRIPT = "inference.py"


def project_command(_size: int) -> list[str]:
    """Return the command of the one process; it starts what it needs for each task."""
    return [sys.executable, "-m", "hidream_server.project"]


def find_project(given: Path | None) -> Path:
    """Return the folder of a HiDream-I1 project; raise ProjectPathError if there is none."""
    places = [given] if given is not None else list(_places())
    for place in places:
        if (place / _SCRIPT).is_file():
            return place.resolve()
    looked = ", ".join(str(place) for place in places)
    raise ProjectPathError(
        f"There is no {_SCRIPT} in {looked}: give the HiDream-I1 project with -p, or leave out -p"
        " and --executor project, and the model is served without one."
    )


def _places() -> Iterator[Path]:
    """Yield where the first version looked."""
    yield from (Path("/workspace/HiDream-I1"), Path("/data/HiDream-I1"))
    yield from (folder / "HiDream-I1" for folder in (Path.home(), Path.cwd(), Path.cwd().parent))
    yield Path.cwd()
