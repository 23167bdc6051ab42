"""Who asks, and what of all there is they may see."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Protocol

from fastapi import Depends, Request

from hidream_server.api.following import Followed, FollowingDep
from hidream_server.errors import TaskNotFoundError
from hidream_server.keys import ApiKey


class Owned(Protocol):
    """What belongs to a client."""

    @property
    def client(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One who asks; where there are no keys, all are known by their addresses and may do all."""

    #: Whose the tasks are that it submits.
    client: str
    is_admin: bool = True
    key: ApiKey | None = None

    @property
    def sees_only(self) -> str | None:
        """The client of whom alone it sees anything; None: all."""
        return None if self.is_admin else self.client

    def sees(self, owned: Owned) -> bool:
        return self.sees_only in (None, owned.client)


#: Who need not say who it is: it asks what all may know, or has a link that was signed for it.
ANYBODY = Caller(client="")


async def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


CallerDep = Annotated[Caller, Depends(_caller)]


async def _still_allowed(request: Request) -> Callable[[], Awaitable[bool]]:
    return partial(request.state.gate.is_still_allowed, request)


#: Asks whether the caller would be let in now, too; for answers that take long.
StillAllowedDep = Annotated[Callable[[], Awaitable[bool]], Depends(_still_allowed)]


async def _followed(task_id: str, caller: CallerDep, following: FollowingDep) -> Followed:
    """Find the task that a path names; another's is as good as none."""
    followed = await following.look(task_id)
    if not caller.sees(followed.task):
        raise TaskNotFoundError(f"There is no task {task_id}.")
    return followed


FollowedDep = Annotated[Followed, Depends(_followed)]
