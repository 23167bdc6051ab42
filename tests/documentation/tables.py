"""Tables of pages, and what the code says of errors, for the tests that hold one to the other."""

import inspect
from collections.abc import Iterator

from hidream_server.api.errors import status_of
from hidream_server.errors import (
    HiDreamError,
    RequestError,
    ResultsUnavailableError,
    StoppingError,
    StoreUnavailableError,
)

#: Codes that no class of ours has, by status: what the framework says, and mistakes.
OF_THE_FRAMEWORK = {
    ("400", "http_error"),
    ("404", "not_found"),
    ("405", "method_not_allowed"),
    ("500", "internal"),
}


def rows(text: str) -> list[list[str]]:
    """Return the cells of every table row."""
    lines = (line for line in text.splitlines() if line.startswith("| "))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def leaves(cls: type[HiDreamError]) -> list[type[HiDreamError]]:
    """Return the classes below one that have none below themselves."""
    below = [leaf for sub in cls.__subclasses__() for leaf in leaves(sub)]
    return below or [cls]


def codes_of_the_api() -> Iterator[tuple[str, str]]:
    """Yield status and code of every error that a client may see."""
    yield from OF_THE_FRAMEWORK
    away = (StoreUnavailableError, ResultsUnavailableError, StoppingError)
    for cls in [*leaves(RequestError), *away]:
        error = cls([]) if "problems" in inspect.signature(cls).parameters else cls()
        yield str(status_of(error)), error.code
