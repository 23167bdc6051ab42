"""What this process' worker groups let others know of themselves."""

import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from hidream_server import __version__
from hidream_server.cli.serving import Serving
from hidream_server.cli.stores import Stores
from hidream_server.engine.membership import Member, Membership
from hidream_server.engine.replicas import Replicas
from hidream_server.errors import NoWorkersError
from hidream_server.model_directory.description import ModelTraits
from hidream_server.queue.outlook import Outlook
from hidream_server.store.database import Database
from hidream_server.store.groups import GroupStore


class Pace(msgspec.Struct):
    """What a group says of how long things take it, in seconds."""

    #: By image tokens, then by rows.
    step_s: dict[int, dict[int, float]]
    #: By image tokens.
    beside_s: dict[int, float]
    #: Of a forward in fp8, over an exact one, where that is known.
    fp8_ratio: float | None = None


def new_membership(serving: Serving | None, stores: Stores, engine: Replicas) -> Membership:
    """Return what tells others of these groups; where nobody shares the database, nobody."""
    store = GroupStore(stores.database) if stores.is_shared else None
    return Membership(own_members(serving, stores, engine), store, stores.clock)


def own_members(
    serving: Serving | None, stores: Stores, engine: Replicas
) -> Callable[[], Sequence[Member]]:
    """Return a function that says how each of an engine's groups is."""
    if serving is None:
        return list
    kind = serving.devices.kind
    machine, model = socket.gethostname(), asdict(serving.model.traits)

    def members() -> Sequence[Member]:
        return [
            Member(
                id=f"{stores.owner}#{number}",
                machine=machine,
                version=__version__,
                model=model,
                devices={"type": kind.name, "ids": list(ids), "dtype": kind.dtype},
                health=supervisor.health.now,
                pace=_pace(stores),
                tasks=supervisor.tasks,
            )
            for number, (supervisor, ids) in enumerate(
                zip(engine.supervisors, serving.replica_devices, strict=True)
            )
        ]

    return members


def _pace(stores: Stores) -> dict[str, Any]:
    step_s, beside_s = stores.outlook.known()
    return {"step_s": step_s, "beside_s": beside_s, "fp8_ratio": stores.outlook.fp8_ratio}


def follow_pace(outlook: Outlook, members: Sequence[Member], has_own: bool) -> None:
    """Let forecasts count on all groups, by what they say of their pace if there is no own one."""
    outlook.spread_over(max(1, sum(member.health.ready for member in members)))
    if not has_own and members:
        said = msgspec.convert(members[0].pace, Pace, strict=False)
        outlook.believe(said.step_s, said.beside_s, said.fp8_ratio)


def traits_of_workers(database: Database) -> ModelTraits:
    """Return what the workers serve that joined last; raise NoWorkersError if none ever did."""
    known = GroupStore(database).seen(since=0.0)
    if not known:
        raise NoWorkersError
    return msgspec.convert(max(known, key=lambda group: group.seen_at).model, ModelTraits)
