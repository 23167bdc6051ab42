"""Holds a request until its task has ended; a client that leaves takes its task with it.

Nobody else would fetch the pictures, and clients that lost patience ask again by themselves.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from fastapi import Request

from hidream_server.api.images import require_pictures
from hidream_server.api.services import Services
from hidream_server.errors import (
    StoppingError,
    StoreUnavailableError,
    TaskCancelledError,
    TaskFailedError,
)
from hidream_server.task import Task


class ClientLeftError(Exception):
    """Nobody waits for an answer any more."""


@contextlib.asynccontextmanager
async def unless_abandoned(services: Services, task_id: str, kept: bool) -> AsyncGenerator[None]:
    """Cancel a task if it is left before its end, unless it is to be asked for again."""
    try:
        yield
    except BaseException as error:
        if not kept and not isinstance(error, TaskFailedError | TaskCancelledError):
            # Not awaited: whoever is cancelled may wait for nothing more.
            asyncio.get_running_loop().run_in_executor(None, _cancel, services, task_id)
        raise


def _cancel(services: Services, task_id: str) -> None:
    # While the database is away the task goes on; it is only painted for nobody.
    with contextlib.suppress(StoreUnavailableError):
        services.queue.cancel(task_id)


async def completed(services: Services, request: Request, task_id: str) -> Task:
    """Return a task that has completed; raise what came of it else, or ClientLeftError."""
    ended = asyncio.create_task(services.feed.ended(task_id))
    left = asyncio.create_task(_left(request))
    try:
        await asyncio.wait((ended, left), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            raise ClientLeftError
        await ended
    finally:
        ended.cancel()
        left.cancel()
    task = (await services.following.look(task_id)).task
    require_completed(task)
    return task


def require_completed(task: Task) -> None:
    """Raise what came of a task, if that is no picture."""
    if task.state.is_open:
        raise StoppingError
    require_pictures(task)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
