"""How tasks are doing, for many who ask at once: one read answers all who asked before it began.

A thread and a query for each of thousands of clients would leave the loop no time for others.
"""

import asyncio
from collections.abc import Sequence
from contextvars import Context
from typing import Annotated, NamedTuple

from fastapi import Depends, Request

from hidream_server.errors import TaskNotFoundError
from hidream_server.queue.task_queue import TaskQueue
from hidream_server.task import Task


class Followed(NamedTuple):
    """A task, and what there is to expect of it."""

    task: Task
    #: Until its pictures are there; none once it has ended.
    seconds_left: float | None
    #: How many queued tasks are before a queued one.
    position: int | None


class Following:
    """Reads for all who ask; belongs to one event loop."""

    def __init__(self, queue: TaskQueue) -> None:
        self._queue = queue
        self._asked: dict[str, asyncio.Future[Followed | None]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def look(self, task_id: str) -> Followed:
        """Say how a task is doing, not before this was asked; raise TaskNotFoundError."""
        answer = self._asked.get(task_id)
        if answer is None:
            answer = self._asked[task_id] = asyncio.get_running_loop().create_future()
        if self._reading is None or self._reading.done():
            # What is logged of it is not about the request that came first.
            self._reading = asyncio.create_task(self._read(), context=Context())
        # One who leaves takes nothing away from others who asked for the same.
        found = await asyncio.shield(answer)
        if found is None:
            raise TaskNotFoundError(f"There is no task {task_id}.")
        return found

    async def _read(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, {}
            try:
                # One at a time, and cheaper than a thread of those that routes share.
                found = await asyncio.to_thread(self._find, list(asked))
            except Exception as error:
                for answer in asked.values():
                    answer.set_exception(error)
                    # Those who asked may all have left.
                    answer.exception()
            else:
                for task_id, answer in asked.items():
                    answer.set_result(found.get(task_id))

    def _find(self, task_ids: Sequence[str]) -> dict[str, Followed]:
        prospects = self._queue.prospects
        return {
            task.id: Followed(task, prospects.seconds_left(task), prospects.position(task))
            for task in self._queue.find(task_ids)
        }


async def _following(request: Request) -> Following:
    following: Following = request.app.state.services.following
    return following


FollowingDep = Annotated[Following, Depends(_following)]
