"""Worker groups of all machines are known to all; one that falls silent is gone."""

from dataclasses import replace

from hidream_server.store.groups import GroupStore, KnownGroup

GROUP = KnownGroup(
    id="machine-1#0",
    machine="machine-1",
    version="1.0",
    model={"name": "HiDream-I1-Full", "variant": "Full"},
    devices={"type": "npu", "ids": [0, 1]},
    health={"state": "healthy", "since": 1.5, "reason": ""},
    pace={"step_s": {"64": {"2": 0.5}}},
    tasks=["a", "b"],
    joined_at=1.0,
    seen_at=2.0,
)


def test_what_a_group_said_last_is_known(database) -> None:
    groups = GroupStore(database)
    groups.say([GROUP])
    later = replace(GROUP, tasks=[], health={"state": "degraded"}, seen_at=3.0)
    groups.say([later])
    assert groups.seen(0) == [later]


def test_groups_are_listed_as_they_joined_and_those_left_out_that_fell_silent(database) -> None:
    groups = GroupStore(database)
    silent = replace(GROUP, id="silent", seen_at=1.0)
    second = replace(GROUP, id="second", joined_at=5.0, seen_at=6.0)
    groups.say([second, silent])
    groups.say([GROUP])
    assert [group.id for group in groups.seen(2.0)] == [GROUP.id, "second"]
    assert groups.forget(2.0) == 1
    assert [group.id for group in groups.seen(0)] == [GROUP.id, "second"]


def test_a_group_that_leaves_is_gone_at_once(database) -> None:
    groups = GroupStore(database)
    groups.say([GROUP, replace(GROUP, id="other")])
    groups.leave([GROUP.id])
    assert [group.id for group in groups.seen(0)] == ["other"]
    groups.leave([])


def test_nobody_is_known_at_first(database) -> None:
    assert GroupStore(database).seen(0) == []
    assert GroupStore(database).forget(10.0) == 0
