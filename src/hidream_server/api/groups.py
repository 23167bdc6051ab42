"""The worker groups of all machines: where each is, how it is, what it has on hand."""

from datetime import UTC, datetime

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from hidream_server.api.access import CallerDep
from hidream_server.api.services import ServicesDep
from hidream_server.engine.membership import Member

router = APIRouter(tags=["health"])


class GroupAnswer(BaseModel):
    """One worker group."""

    id: str
    machine: str
    version: str
    model: str
    device_type: str
    device_ids: list[int]
    layout: str
    wanted_layout: str
    status: str
    ready: bool
    reason: str = Field(description="Why it is not well.")
    since: datetime
    active_tasks: int = Field(description="How many tasks it has on hand.")
    tasks: list[str] = Field(description="Those of them that you may see.")

    @classmethod
    def of(cls, member: Member, seen: set[str]) -> "GroupAnswer":
        """Say how a group is; of its tasks only those that are `seen`."""
        health = member.health
        return cls(
            id=member.id,
            machine=member.machine,
            version=member.version,
            model=member.model["name"],
            device_type=member.devices["type"],
            device_ids=member.devices["ids"],
            layout=health.layout,
            wanted_layout=health.wanted_layout,
            status=health.state,
            ready=health.ready,
            reason=health.reason,
            since=datetime.fromtimestamp(health.since, UTC),
            active_tasks=len(member.tasks),
            tasks=[task_id for task_id in member.tasks if task_id in seen],
        )


class GroupsAnswer(BaseModel):
    groups: list[GroupAnswer]


@router.get("/groups")
async def groups(caller: CallerDep, services: ServicesDep) -> GroupsAnswer:
    """List the worker groups that are known to live, and what each has on hand."""
    members = services.members()
    ids = [task_id for member in members for task_id in member.tasks]
    tasks = await run_in_threadpool(services.queue.find, ids)
    seen = {task.id for task in tasks if caller.sees(task)}
    return GroupsAnswer(groups=[GroupAnswer.of(member, seen) for member in members])
