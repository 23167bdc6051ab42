"""Pages of tasks, the latest first."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import AwareDatetime

from hidream_server.api.access import CallerDep
from hidream_server.api.following import Followed
from hidream_server.api.schemas import StatusAnswer, TaskList, Text
from hidream_server.api.services import LinksDep, Services, ServicesDep
from hidream_server.store.reading import Wanted
from hidream_server.task import TaskState

router = APIRouter(tags=["tasks"])

#: No database counts further.
_MAX_CURSOR = 2**63 - 1


@router.get("/tasks")
async def list_tasks(
    links: LinksDep,
    caller: CallerDep,
    services: ServicesDep,
    status: Annotated[TaskState | None, Query(description="Only tasks in this state.")] = None,
    prompt: Annotated[
        Text | None, Query(description="Only tasks with this text in their prompt.")
    ] = None,
    created_after: Annotated[AwareDatetime | None, Query(description="Included.")] = None,
    created_before: Annotated[AwareDatetime | None, Query(description="Excluded.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[
        int | None,
        Query(description="What the page before gave as next_cursor.", ge=0, le=_MAX_CURSOR),
    ] = None,
) -> TaskList:
    """List the tasks that you may see, the latest first."""
    wanted = Wanted(
        client=caller.sees_only,
        state=status,
        prompt=prompt,
        created_after=_seconds(created_after),
        created_before=_seconds(created_before),
    )
    found, next_cursor = await run_in_threadpool(_page, services, wanted, cursor, limit)
    return TaskList(
        tasks=[StatusAnswer.of(followed, links) for followed in found], next_cursor=next_cursor
    )


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()


def _page(
    services: Services, wanted: Wanted, cursor: int | None, limit: int
) -> tuple[list[Followed], int | None]:
    prospects = services.queue.prospects
    tasks, following = services.queue.page(wanted, cursor, limit)
    found = [
        Followed(task, prospects.seconds_left(task), prospects.position(task)) for task in tasks
    ]
    return found, following
