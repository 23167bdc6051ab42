"""The files that a batch comes to once it has ended, made of its tasks as they are read."""

import json
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from fastapi.concurrency import run_in_threadpool

from hidream_server.api.access import Caller
from hidream_server.api.errors import openai_body, openai_status
from hidream_server.api.images import require_picture
from hidream_server.api.links import Links
from hidream_server.api.openai.answers import Answers
from hidream_server.api.openai.schemas import ImageRequest
from hidream_server.api.openai.waiting import require_completed
from hidream_server.api.services import Services
from hidream_server.errors import (
    BatchFileNotFoundError,
    HiDreamError,
    StoreUnavailableError,
    TaskNotFoundError,
)
from hidream_server.store.batches import Batch, Line, Progress
from hidream_server.task import Task

_ID = re.compile(r"file-([0-9a-f]{32})-(output|errors)")
#: So many tasks are looked up at once.
_AT_ONCE = 100


def results_id(batch: Batch, failed: bool) -> str:
    """Return the id of the file with what came to pictures, or of that with what failed."""
    return f"file-{batch.id.removeprefix('batch_')}-{'errors' if failed else 'output'}"


def results_of(
    services: Services, links: Links, caller: Caller, file_id: str
) -> "BatchResults | None":
    """Return what a batch came to, None if this is no such file's id.

    Raises BatchFileNotFoundError if there is no such batch, or not yet such a file.
    """
    match = _ID.fullmatch(file_id)
    if match is None:
        return None
    batch = services.batches.find(f"batch_{match[1]}")
    if batch is None or not caller.sees(batch) or not batch.total:
        raise BatchFileNotFoundError(f"There is no file {file_id}.")
    progress = services.batches.progress([batch])[batch.id]
    if progress.open:
        raise BatchFileNotFoundError(f"There is no file {file_id} before the batch has ended.")
    return BatchResults(services, links, batch, progress, match[2] == "errors")


@dataclass(frozen=True, slots=True)
class BatchResults:
    """One of the two files of a batch that has ended."""

    services: Services
    links: Links
    batch: Batch
    progress: Progress
    failed: bool

    @property
    def ended_at(self) -> float:
        return self.progress.ended_at or self.batch.created_at

    async def size(self) -> int:
        """Return the size of the file in bytes, for which all of it is made."""
        return sum([len(line) async for line in self.lines()])

    async def lines(self) -> AsyncGenerator[bytes]:
        """Yield the lines one by one: all pictures of a batch are more than memory holds."""
        batches, batch = self.services.batches, self.batch
        asked = await run_in_threadpool(batches.lines, batch)
        for first in range(0, batch.total, _AT_ONCE):
            tasks = await run_in_threadpool(batches.tasks, batch, first, _AT_ONCE)
            for index, line in enumerate(asked[first : first + _AT_ONCE], first):
                answer = await self._answer(line, tasks.get(index))
                if answer is not None:
                    yield self._encoded(index, line, answer)

    async def _answer(self, line: Line, task: Task | None) -> dict[str, Any] | None:
        """Return what a line came to, None if that is the other file's.

        Raises StoreUnavailableError while that cannot be known.
        """
        try:
            task = await run_in_threadpool(self._painted, task)
            if self.failed:
                return None
            answers = Answers(self.services, self.links, ImageRequest.model_validate(line.body))
            status, body = 200, await answers.images(task)
        except StoreUnavailableError:
            raise
        except HiDreamError as error:
            if not self.failed:
                return None
            status, body = openai_status(error), openai_body(error)
        return {"status_code": status, "request_id": task.id if task else "", "body": body}

    def _painted(self, task: Task | None) -> Task:
        """Return a task all of whose pictures are there; raise what became of them else."""
        if task is None:
            raise TaskNotFoundError("The task of this line was deleted.")
        require_completed(task)
        for name in task.pictures:
            require_picture(self.services, task, name)
        return task

    def _encoded(self, index: int, line: Line, answer: dict[str, Any]) -> bytes:
        return (
            json.dumps(
                {
                    "id": f"batch_req_{self.batch.id.removeprefix('batch_')}_{index}",
                    "custom_id": line.custom_id,
                    "response": answer,
                    "error": None,
                },
                ensure_ascii=False,
            ).encode()
            + b"\n"
        )
