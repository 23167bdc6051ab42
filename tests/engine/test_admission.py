"""How often a group asks for work: at once when it is alone, in its turn when there are many."""

import asyncio
import math
from pathlib import Path

import pytest

from hidream_server.engine.admission import Admission
from hidream_server.engine.leavings import Leavings
from hidream_server.engine.patient_queue import PatientQueue
from hidream_server.engine.running_tasks import RunningTasks
from hidream_server.store.results import in_folder
from hidream_server.store.tasks import TaskStore
from hidream_server.task import Task
from tests.support import Clock, new_database, new_outlook, new_queue, params, submit


class Counted(PatientQueue):
    """Counts how often it is asked for a task, and may be told something meanwhile."""

    asked = 0
    meanwhile = staticmethod(lambda: None)

    async def claim(self, due_before: float) -> list[Task]:
        self.asked += 1
        found = await super().claim(due_before)
        self.meanwhile()
        return found


class Stage:
    def __init__(self, folder: Path, groups: int, max_running: int = 4) -> None:
        self.clock = Clock(100.0)
        self.tasks = new_queue(TaskStore(new_database(folder / "tasks.db")))
        self.queue = Counted(self.tasks, "me")
        leavings = Leavings(in_folder(folder))
        self.running = RunningTasks(self.queue, leavings, new_outlook())
        self.admission = Admission(
            self.queue, self.running, max_running, lambda: groups, self.clock, draw=lambda: 0.5
        )

    def next_task(self) -> Task | None:
        return asyncio.run(self.admission.next_task())


def test_a_group_that_is_alone_asks_again_as_soon_as_there_are_news(tmp_path: Path) -> None:
    stage = Stage(tmp_path, groups=1)
    assert stage.next_task() is None
    assert stage.next_task() is None
    assert stage.queue.asked == 1, "nothing has changed"
    [task] = submit(stage.tasks, [params()])
    stage.admission.news()
    assert stage.admission.ask_in_s == 0
    assert stage.next_task().id == task.id


@pytest.mark.parametrize(("groups", "pause_s"), [(2, 0.02), (50, 0.5), (10_000, 5.0)])
def test_one_of_many_waits_for_its_turn_after_it_asked_in_vain(
    tmp_path: Path, groups: int, pause_s: float
) -> None:
    stage = Stage(tmp_path, groups)
    assert stage.next_task() is None
    [task] = submit(stage.tasks, [params()])
    stage.admission.news()
    assert stage.admission.ask_in_s == pytest.approx(pause_s)
    stage.clock.now += 0.99 * pause_s
    assert stage.next_task() is None
    assert stage.queue.asked == 1
    stage.clock.now += 0.02 * pause_s
    assert stage.next_task().id == task.id


def test_one_that_did_not_ask_in_vain_asks_at_once(tmp_path: Path) -> None:
    stage = Stage(tmp_path, groups=10_000)
    submit(stage.tasks, [params(), params()])
    stage.admission.news()
    assert stage.next_task() is not None
    assert stage.next_task() is not None


def test_a_place_that_became_free_is_a_reason_to_ask_at_once(tmp_path: Path) -> None:
    stage = Stage(tmp_path, groups=10_000)
    submit(stage.tasks, [params(), params()])
    first, second = stage.next_task(), stage.next_task()
    assert stage.next_task() is None
    [third] = submit(stage.tasks, [params()])

    async def drop() -> None:
        stage.running.cancelled(first.id)

    asyncio.run(drop())
    assert second in stage.running
    assert stage.next_task().id == third.id


def test_without_news_it_is_asked_now_and_then(tmp_path: Path) -> None:
    stage = Stage(tmp_path, groups=10)
    assert stage.next_task() is None
    assert stage.admission.ask_in_s == math.inf
    stage.clock.now += 0.9
    assert stage.next_task() is None
    assert stage.queue.asked == 1
    stage.clock.now += 0.2
    assert stage.next_task() is None
    assert stage.queue.asked == 2


def test_news_that_come_while_the_table_is_asked_are_not_passed_over(tmp_path: Path) -> None:
    stage = Stage(tmp_path, groups=1)

    def meanwhile() -> None:
        submit(stage.tasks, [params()])
        stage.admission.news()
        stage.queue.meanwhile = lambda: None

    stage.queue.meanwhile = meanwhile
    assert stage.next_task() is None
    assert stage.next_task() is not None


def test_one_that_is_full_waits_for_no_turn(tmp_path: Path) -> None:
    stage = Stage(tmp_path, groups=10, max_running=1)
    submit(stage.tasks, [params(), params()])
    assert stage.next_task() is not None
    stage.admission.news()
    assert stage.admission.ask_in_s == math.inf
    assert stage.next_task() is None
    assert stage.queue.asked == 1
