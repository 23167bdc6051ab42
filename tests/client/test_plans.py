"""Plans are carried out by hand: what they ask for, and what they make of answers."""

from collections.abc import Sequence
from typing import Any

import pytest

from hidream_server.client import plans
from hidream_server.client.errors import ServerError, TaskNotCompletedError, UnreachableError
from hidream_server.client.plans import Answer, Call, Item, Pause
from hidream_server.task import TaskState

NO_ANSWER = Answer(0, error="connection refused")
BUSY = Answer(429, {"error": {"code": "queue_full", "message": "The queue is full."}}, 7.0)


def status(state: str = "completed", **fields: Any) -> dict[str, Any]:
    return {
        "task_id": "a",
        "status": state,
        "progress": 0,
        "estimated_time": None,
        "queue_position": None,
        "error": "",
        "seeds": [5, 6],
        "result_urls": [],
        "processing_time": None,
        "request": {"num_inference_steps": 10, "num_images_per_prompt": 2},
    } | fields


def carry_out(plan: plans.Plan[Any], answers: Sequence[Answer]) -> tuple[list[Call | Pause], Any]:
    """Give a plan these answers; return what it asked for, and what it came to."""
    asked, left = [], iter(answers)
    step = next(plan)
    try:
        while True:
            asked.append(step)
            step = plan.send(next(left) if isinstance(step, Call) else None)
    except StopIteration as end:
        assert next(left, None) is None
        return asked, end.value


def test_what_may_be_repeated_is_asked_again_when_the_server_says(subtests):
    for failure, pause_s in ((NO_ANSWER, 0.5), (BUSY, 7.0), (Answer(503), 0.5)):
        with subtests.test(failure=failure):
            asked, found = carry_out(plans.health(), [failure, failure, Answer(200, {"a": 1})])
            call = Call("GET", "health")
            second_s = 7.0 if failure is BUSY else 1.0
            assert asked == [call, Pause(pause_s), call, Pause(second_s), call]
            assert found == {"a": 1}


def test_after_five_tries_it_is_an_error():
    with pytest.raises(UnreachableError, match="cannot be reached at connection refused"):
        carry_out(plans.health(), [NO_ANSWER] * 5)
    with pytest.raises(ServerError, match="The queue is full") as raised:
        carry_out(plans.health(), [BUSY] * 5)
    assert (raised.value.status_code, raised.value.server_code) == (429, "queue_full")


def test_what_must_not_be_repeated_is_asked_once():
    with pytest.raises(ServerError):
        carry_out(plans.cancel("a"), [Answer(503)])
    with pytest.raises(ServerError):
        carry_out(plans.submit("a", task_id="b"), [Answer(503)])


@pytest.mark.parametrize("data", [b"<html>", None, {"error": "plain"}, {"detail": 1}, []])
def test_an_error_from_something_in_between_is_an_error_as_well(data):
    with pytest.raises(ServerError, match="answered 502"):
        carry_out(plans.status("a"), [Answer(502, data)] * 5)


def test_problems_of_fields_are_kept():
    problems = [{"field": "seed", "value": -1, "allowed": "0 to 9"}]
    said = {"code": "invalid_request", "message": "seed: 0 to 9", "problems": problems}
    with pytest.raises(ServerError, match="seed: 0 to 9") as raised:
        carry_out(plans.submit("a", seed=-1), [Answer(422, {"error": said})])
    assert raised.value.problems == problems


def test_a_submission_has_one_key_for_all_its_tries():
    accepted = Answer(200, {"task_id": "a"})
    asked, found = carry_out(
        plans.submit("a cat", seed=5), [NO_ANSWER, accepted, Answer(200, status("queued"))]
    )
    first, again = (step for step in asked if isinstance(step, Call) and step.method == "POST")
    assert first == again
    assert first.body == {"prompt": "a cat", "seed": 5}
    assert len(first.headers["Idempotency-Key"]) == 36
    assert found.state is TaskState.QUEUED
    other = next(plans.submit("a cat"))
    assert other.headers != first.headers


def test_a_key_that_is_given_is_used():
    assert next(plans.submit("a", idempotency_key="mine")).headers == {"Idempotency-Key": "mine"}
    assert next(plans.submit("a", task_id="b")).headers == {}


def test_progress_is_told_when_it_is_new():
    told = []
    answers = [
        status("processing", progress=10),
        status("processing", progress=10),
        status("processing", progress=55),
        status("completed", progress=100),
    ]
    asked, ended = carry_out(plans.wait("a", told.append), [Answer(200, each) for each in answers])
    assert [each.step for each in told] == [(2, 20), (11, 20), (20, 20)]
    assert asked.count(Pause(0.5)) == 3
    assert ended.state is TaskState.COMPLETED


def test_without_a_listener_the_server_holds_its_answer_back():
    asked, _ = carry_out(
        plans.wait("a"), [Answer(200, status("processing")), Answer(200, status())]
    )
    assert asked == [Call("GET", "status/a", None, {"wait": 30})] * 2


def test_generating_submits_waits_and_fetches_every_picture():
    answers = [
        Answer(200, {"task_id": "a"}),
        Answer(200, status("queued")),
        Answer(200, status()),
        Answer(200, b"one"),
        Answer(200, b"two"),
    ]
    asked, files = carry_out(plans.generate("a cat"), answers)
    assert files == [b"one", b"two"]
    assert [step.query for step in asked[-2:]] == [{"image_index": 0}, {"image_index": 1}]


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_task_without_pictures_is_an_error_that_says_why(state):
    with pytest.raises(TaskNotCompletedError, match=f"is {state}: no space") as raised:
        carry_out(plans.pictures("a"), [Answer(200, status(state, error="no space"))])
    assert raised.value.status.task_id == "a"


def test_pages_are_read_to_the_last():
    pages = [
        {"tasks": [status(task_id=name) for name in names], "next_cursor": cursor}
        for names, cursor in (("ab", 7), ("c", None))
    ]
    series, answers = plans.tasks(TaskState.COMPLETED), iter(pages)
    found, queries, step = [], [], next(series)
    while step is not None:
        if isinstance(step, Item):
            found.append(step.value.task_id)
            step = next(series, None)
        else:
            queries.append(dict(step.query))
            step = series.send(Answer(200, next(answers)))
    assert found == ["a", "b", "c"]
    first = {"status": "completed", "limit": 100}
    assert queries == [first, first | {"cursor": 7}]
