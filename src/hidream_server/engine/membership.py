"""Lets all servers on a database know of the worker groups of all machines, and of their health.

A group that has said nothing for a while is gone. Knows groups; nothing of what they work on.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from hidream_server.engine.health import EngineHealth
from hidream_server.errors import StoreUnavailableError
from hidream_server.store.groups import GroupStore, KnownGroup

logger = logging.getLogger(__name__)

#: A group says so often how it is, and is gone when it has said nothing for so long, in seconds.
SAY_S, GONE_S = 2.0, 15.0
#: For so long it is remembered what a group served that is gone.
_FORGET_S = 7 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One worker group: where it is, what it serves, how it is, what it has on hand."""

    id: str
    machine: str
    version: str
    model: Mapping[str, Any]
    devices: Mapping[str, Any]
    health: EngineHealth
    #: Seconds of steps by image tokens, then by rows; and beside them, by image tokens.
    pace: Mapping[str, Any]
    tasks: Sequence[str]


class Membership:
    """This process' own groups, and those of all others that share its database, if any do."""

    def __init__(
        self,
        own: Callable[[], Sequence[Member]],
        store: GroupStore | None,
        clock: Callable[[], float],
    ) -> None:
        self._own = own
        self._store = store
        self._clock = clock
        self._joined_at = clock()
        self._others: list[Member] = []
        self._lock = threading.Lock()

    @property
    def members(self) -> list[Member]:
        """All that are known to live, the own ones as they are now."""
        own = list(self._own())
        return own + self._others

    def refresh(self) -> None:
        """Say how the own groups are, and hear of the others; called every SAY_S seconds."""
        if self._store is None:
            return
        now, own = self._clock(), self._own()
        try:
            self._store.say([self._known(member, now) for member in own])
            known = self._store.seen(now - GONE_S)
        except StoreUnavailableError:
            # Nobody can be heard of; what was heard last is the best there is.
            return
        mine = {member.id for member in own}
        self._others = [_member(group) for group in known if group.id not in mine]

    def leave(self) -> None:
        """Let the others know that the own groups are gone."""
        if self._store is not None:
            try:
                self._store.leave([member.id for member in self._own()])
                self._store.forget(self._clock() - _FORGET_S)
            except StoreUnavailableError:
                logger.debug("The others will find out that this process has left")

    def _known(self, member: Member, now: float) -> KnownGroup:
        return KnownGroup(
            id=member.id,
            machine=member.machine,
            version=member.version,
            model=member.model,
            devices=member.devices,
            health=asdict(member.health),
            pace=member.pace,
            tasks=list(member.tasks),
            joined_at=self._joined_at,
            seen_at=now,
        )


def _member(group: KnownGroup) -> Member:
    return Member(
        id=group.id,
        machine=group.machine,
        version=group.version,
        model=group.model,
        devices=group.devices,
        health=msgspec.convert(group.health, EngineHealth),
        pace=group.pace,
        tasks=group.tasks,
    )
