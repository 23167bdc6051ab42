"""Ranks as actors: what each is told, where it lies, and that they all end together.

Ray itself is stood in for; tests/e2e/test_ray.py has the real one.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayActorError

from hidream_server.engine.launchers import ray as launching
from hidream_server.engine.launchers.launcher import Control, LaunchOrder
from hidream_server.engine.launchers.ray import RankProcess, RayLauncher, device_ids
from hidream_server.errors import DeviceUnavailableError, GroupStartError
from hidream_server.ipc import CONTROL_ADDRESS, CONTROL_TOKEN

GROUP: Any = object()
BUNDLES = [{"CPU": 1.0, "NPU": 1.0}] * 2
ORDER = LaunchOrder(
    size=2,
    control=Control(host="127.0.0.1", port=4711, token="secret"),
    environment={"ASCEND_RT_VISIBLE_DEVICES": "4,5"},
)


class FakeActor:
    """Its run ends when a test says so, or when it is killed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: dict[str, Any]) -> None:
        self._loop = loop
        self.options = options
        self.ended: asyncio.Future[tuple[int, list[str]]] = loop.create_future()
        self.run = SimpleNamespace(remote=self._run)

    def _run(self, command: list[str], environment: dict[str, str]) -> Awaitable[Any]:
        self.command, self.environment = command, environment
        return self.ended

    def die(self) -> None:
        if not self.ended.done():
            self.ended.set_exception(RayActorError())


class FakeRay:
    """As much of Ray as the launcher uses."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.actors: list[FakeActor] = []
        self.killed: list[FakeActor] = []

    def remote(self, _kind: type) -> SimpleNamespace:
        return SimpleNamespace(options=self._options)

    def _options(self, **options: Any) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda: self._new(options))

    def _new(self, options: dict[str, Any]) -> FakeActor:
        self.actors.append(FakeActor(self._loop, options))
        return self.actors[-1]

    def kill(self, actor: FakeActor) -> None:
        self.killed.append(actor)
        self._loop.call_soon_threadsafe(actor.die)


Life = Callable[[FakeRay, RayLauncher], Awaitable[None]]


@pytest.fixture
def live(monkeypatch):
    """Return a function that lets something happen to a launcher that has started two ranks."""

    def live(life: Life, niceness: int = 0) -> FakeRay:
        async def main() -> FakeRay:
            fake = FakeRay(asyncio.get_running_loop())
            monkeypatch.setattr(launching, "ray", fake)
            launcher = RayLauncher(GROUP, BUNDLES, niceness)
            await launcher.start(ORDER)
            await life(fake, launcher)
            return fake

        return asyncio.run(asyncio.wait_for(main(), 30))

    return live


async def kill(_fake: FakeRay, launcher: RayLauncher) -> None:
    await launcher.kill()


def test_each_rank_is_told_who_it_is_and_where_the_others_and_the_supervisor_are(live):
    actors = live(kill).actors
    assert [actor.environment["RANK"] for actor in actors] == ["0", "1"]
    assert [actor.environment["LOCAL_RANK"] for actor in actors] == ["0", "1"]
    assert len({actor.environment["MASTER_PORT"] for actor in actors}) == 1
    for actor in actors:
        assert actor.environment["MASTER_ADDR"] == "127.0.0.1"
        assert actor.environment["WORLD_SIZE"] == "2"
        assert actor.environment[CONTROL_ADDRESS] == "127.0.0.1:4711"
        assert actor.environment[CONTROL_TOKEN] == "secret"
        assert actor.environment["ASCEND_RT_VISIBLE_DEVICES"] == "4,5"


def test_a_rank_is_the_same_program_as_ever_and_gives_way_as_far_as_it_is_told_to(live):
    program = [sys.executable, "-m", "hidream_server.worker"]
    assert live(kill).actors[0].command == program
    assert live(kill, niceness=10).actors[0].command == ["nice", "-n", "10", *program]


def test_each_rank_has_a_bundle_to_itself_behind_the_supervisors(live):
    actors = live(kill).actors
    places = [actor.options["scheduling_strategy"] for actor in actors]
    assert [place.placement_group_bundle_index for place in places] == [1, 2]
    assert all(place.placement_group is GROUP for place in places)
    for actor in actors:
        assert actor.options["resources"] == {"NPU": 1.0}
        assert (actor.options["num_cpus"], actor.options["num_gpus"]) == (1.0, 0)
        assert actor.options["max_restarts"] == 0


def test_the_first_rank_to_end_takes_the_others_with_it(live, caplog):
    reasons: list[str] = []

    async def life(fake: FakeRay, launcher: RayLauncher) -> None:
        fake.actors[1].ended.set_result((1, ["out of memory"]))
        reasons.append(await launcher.wait())

    fake = live(life)
    assert reasons == ["rank 1 ended with code 1"]
    assert fake.actors[0] in fake.killed
    assert "out of memory" in caplog.text


def test_so_does_one_whose_actor_is_gone(live):
    reasons: list[str] = []

    async def life(fake: FakeRay, launcher: RayLauncher) -> None:
        fake.actors[0].die()
        reasons.append(await launcher.wait())

    assert fake_all_killed(live(life))
    assert reasons == ["the actor of rank 0 ended: RayActorError"]


def fake_all_killed(fake: FakeRay) -> bool:
    return set(fake.actors) <= set(fake.killed)


def test_an_end_of_our_own_making_is_no_error(live, caplog):
    fake = live(kill)
    assert fake_all_killed(fake)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_killing_what_was_never_started_is_no_error():
    asyncio.run(RayLauncher(GROUP, BUNDLES).kill())


def test_what_ray_cannot_start_is_a_group_that_cannot_start(monkeypatch):
    def refuse(_kind: type) -> None:
        raise RayActorError

    monkeypatch.setattr(launching, "ray", SimpleNamespace(remote=refuse))
    with pytest.raises(GroupStartError, match="could not be started"):
        asyncio.run(RayLauncher(GROUP, BUNDLES).start(ORDER))


def given(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let Ray have given these devices to the bundles, one to each."""
    handle = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda _resource: None))
    fake = SimpleNamespace(remote=lambda _f: handle, get=lambda _refs: [[name] for name in names])
    monkeypatch.setattr(launching, "ray", fake)


def test_the_devices_are_those_that_ray_has_given(monkeypatch):
    given(monkeypatch, "5", "2")
    assert device_ids(GROUP, BUNDLES) == (2, 5)


def test_a_device_without_a_number_is_refused(monkeypatch):
    given(monkeypatch, "GPU-1a2b", "2")
    with pytest.raises(DeviceUnavailableError, match="GPU-1a2b"):
        device_ids(GROUP, BUNDLES)


def test_of_processors_there_are_as_many_as_bundles():
    assert device_ids(GROUP, [{"CPU": 1.0}] * 3) == (0, 1, 2)


def test_a_rank_leaves_its_exit_code_and_its_last_words():
    program = "import os; print('a' * 70000); print(os.environ['WHO']); raise SystemExit(3)"
    code, output = RankProcess().run([sys.executable, "-c", program], {"WHO": "rank 1"})
    assert code == 3
    assert output[-1] == "rank 1"
    assert len(output) == 3
