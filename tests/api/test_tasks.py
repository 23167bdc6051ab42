"""Submit and follow: the original routes."""

from datetime import UTC, datetime
from threading import Timer

import pytest

from hidream_server.task import TaskState
from tests.api.support import error_of, problem_of

ANSWER_FIELDS = {
    "task_id",
    "requestId",
    "status",
    "estimated_time",
    "queue_position",
    "message",
}
STATUS_FIELDS = {
    "pictures_expired",
    *("task_id", "requestId", "status", "progress", "result_urls", "error", "created_at"),
    *("started_at", "completed_at", "processing_time", "attempt", "seeds", "timings"),
    "reused_steps",
    *("estimated_time", "queue_position", "request"),
}


def test_a_prompt_is_enough(client, queue):
    response = client.post("/submit", json={"prompt": "a red circle"})
    assert response.status_code == 200
    answer = response.json()
    assert set(answer) == ANSWER_FIELDS
    assert answer["task_id"] == answer["requestId"]
    assert answer["status"] == "queued"
    task = queue.get(answer["task_id"])
    assert task.state is TaskState.QUEUED
    assert task.params.prompt == "a red circle"


def test_every_field_reaches_the_task(client, queue):
    body = {
        "prompt": "红色的圆 🎨\n\tsecond line",
        "negative_prompt": "blur",
        "resolution": "1024x768",
        "num_inference_steps": 7,
        "guidance_scale": 2.5,
        "num_images_per_prompt": 3,
        "seed": 11,
        "batch_size": 2,
        "infer_type": "Performance",
        "priority": "high",
    }
    params = queue.get(client.post("/submit", json=body).json()["task_id"]).params
    assert params.prompt == body["prompt"]
    assert params.negative_prompt == "blur"
    assert (params.width, params.height) == (1024, 768)
    assert (params.num_inference_steps, params.guidance_scale) == (7, 2.5)
    assert (params.num_images, params.seed, params.infer_type) == (3, 11, "Performance")
    assert params.priority == "high"


def test_without_a_seed_each_task_draws_its_own_and_reports_it(client, queue):
    ids = [client.post("/submit", json={"prompt": "a"}).json()["task_id"] for _ in range(3)]
    seeds = [client.get(f"/status/{task_id}").json()["seeds"] for task_id in ids]
    assert len({seed for [seed] in seeds}) == 3
    assert [queue.get(task_id).params.seeds for task_id in ids] == seeds


def test_the_estimate_grows_with_what_waits(client):
    first, second = (
        client.post("/submit", json={"prompt": "a"}).json()["estimated_time"] for _ in range(2)
    )
    assert first > 0
    assert second == pytest.approx(2 * first, abs=0.2)


def test_a_batch_is_answered_in_its_order(client, queue):
    prompts = ["a", "b", "c"]
    response = client.post("/batch_submit", json={"requests": [{"prompt": p} for p in prompts]})
    assert response.status_code == 200
    answers = response.json()
    assert [set(answer) for answer in answers] == [ANSWER_FIELDS] * 3
    assert [queue.get(answer["task_id"]).params.prompt for answer in answers] == prompts
    estimates = [answer["estimated_time"] for answer in answers]
    assert estimates == sorted(estimates)
    assert estimates[0] < estimates[2]


def test_the_status_of_a_queued_task(client):
    before = datetime.now(UTC)
    task_id = client.post("/submit", json={"prompt": "a", "seed": 5}).json()["task_id"]
    status = client.get(f"/status/{task_id}").json()
    assert set(status) == STATUS_FIELDS
    created = datetime.fromisoformat(status.pop("created_at"))
    assert created.utcoffset() is not None
    assert before <= created <= datetime.now(UTC)
    assert status.pop("estimated_time") > 0
    assert status == {
        "queue_position": 0,
        "task_id": task_id,
        "requestId": task_id,
        "status": "queued",
        "progress": 0,
        "result_urls": [],
        "pictures_expired": False,
        "error": "",
        "started_at": None,
        "completed_at": None,
        "processing_time": None,
        "attempt": 0,
        "seeds": [5],
        "timings": None,
        "reused_steps": None,
        "request": {
            "prompt": "a",
            "negative_prompt": "",
            "resolution": "1024x1024",
            "num_inference_steps": 50,
            "guidance_scale": 5.0,
            "num_images_per_prompt": 1,
            "seed": 5,
            "infer_type": "Accuracy",
            "priority": "normal",
            "deadline_s": None,
            "num_previews": 0,
        },
    }


def test_what_a_status_says_was_asked_for_can_be_submitted_again(client, queue):
    first = client.post("/submit", json={"prompt": "a", "seed": 5}).json()["task_id"]
    again = client.get(f"/tasks/{first}").json()["request"]
    second = client.post("/submit", json=again).json()["task_id"]
    assert queue.get(second).params == queue.get(first).params


def test_the_progress_follows_the_steps(client, queue, running):
    task = running(num_inference_steps=10, num_images_per_prompt=2)
    queue.beat({(task.id, task.attempt): 5})
    status = client.get(f"/status/{task.id}").json()
    assert (status["status"], status["progress"]) == ("processing", 25)
    assert status["started_at"]
    assert status["completed_at"] is None


def test_a_completed_task_says_where_its_pictures_are_and_what_it_took(client, completed):
    task = completed(num_images_per_prompt=2, seed=7)
    status = client.get(f"/status/{task.id}").json()
    assert (status["status"], status["progress"]) == ("completed", 100)
    assert status["seeds"] == [7, 8]
    assert status["result_urls"] == [
        f"http://testserver/images/{task.id}_1_{index}.png" for index in range(2)
    ]
    assert status["processing_time"] == pytest.approx(task.processing_time)
    for url in status["result_urls"]:
        assert client.get(url).headers["content-type"] == "image/png"


def test_a_failed_task_says_why(client, queue, running):
    task = running()
    queue.fail((task.id, task.attempt), "out of memory")
    status = client.get(f"/status/{task.id}").json()
    assert (status["status"], status["error"]) == ("failed", "out of memory")
    assert status["result_urls"] == []


@pytest.mark.parametrize(
    ("infer_type", "timings"),
    [("Accuracy", None), ("Performance", None), ("Profiling", {"denoise_s": 1.5})],
)
def test_the_seconds_by_stage_are_for_profiling(client, completed, infer_type, timings):
    task = completed(infer_type=infer_type)
    assert client.get(f"/status/{task.id}").json()["timings"] == timings


@pytest.mark.parametrize("count", [None, 0, 17])
def test_how_many_steps_were_reused_is_said(client, completed, count):
    task = completed(infer_type="Performance", reused_steps=count)
    assert client.get(f"/status/{task.id}").json()["reused_steps"] == count


@pytest.mark.parametrize(
    "address", ["https://pictures.example/hidream", "https://pictures.example/hidream/"]
)
def test_links_use_the_address_that_is_configured(client_with, completed, address):
    task = completed()
    [url] = client_with(api_base_url=address).get(f"/status/{task.id}").json()["result_urls"]
    assert url == f"https://pictures.example/hidream/images/{task.id}_1_0.png"


def test_without_one_links_use_the_address_of_the_request(client, completed):
    task = completed()
    headers = {"host": "10.1.2.3:9000"}
    [url] = client.get(f"/status/{task.id}", headers=headers).json()["result_urls"]
    assert url.startswith("http://10.1.2.3:9000/images/")


def test_an_unknown_task_is_404(client):
    error = error_of(client.get("/status/nobody"), 404)
    assert error["code"] == "task_not_found"
    assert "nobody" in error["message"]


# Deadlines


def test_a_deadline_that_cannot_be_met_is_refused(client, queue):
    estimate = client.post("/submit", json={"prompt": "a"}).json()["estimated_time"]
    problem = problem_of(client.post("/submit", json={"prompt": "a", "deadline_s": estimate / 100}))
    assert (problem["field"], problem["value"]) == ("deadline_s", estimate / 100)
    assert problem["allowed"].startswith("at least")
    assert queue.counts()[TaskState.QUEUED] == 1


def test_a_deadline_that_can_be_met_is_kept_in_mind(client, queue):
    for _ in range(3):
        client.post("/submit", json={"prompt": "a", "num_inference_steps": 200})
    alone = client.post("/submit", json={"prompt": "a", "num_inference_steps": 20}).json()
    body = {"prompt": "a", "num_inference_steps": 20, "deadline_s": 1.5 * alone["estimated_time"]}
    answer = client.post("/submit", json=body)
    assert answer.status_code == 200, answer.text
    task = queue.get(answer.json()["task_id"])
    assert task.deadline_at == pytest.approx(task.created_at + body["deadline_s"])


# Cancelling


def test_a_task_can_be_cancelled_queued_or_running_and_again(client, running):
    claimed = running().id
    queued = client.post("/submit", json={"prompt": "a"}).json()["task_id"]
    for task_id in (claimed, queued):
        answers = [client.post(f"/tasks/{task_id}/cancel") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].json() == answers[1].json() == client.get(f"/status/{task_id}").json()
        assert answers[0].json()["status"] == "cancelled"


def test_a_task_that_has_ended_is_not_cancelled(client, completed):
    task_id = completed().id
    error = error_of(client.post(f"/tasks/{task_id}/cancel"), 409)
    assert error["code"] == "task_ended"
    assert "completed" in error["message"]
    assert client.get(f"/status/{task_id}").json()["status"] == "completed"


@pytest.mark.parametrize(
    ("method", "suffix"),
    [("POST", "/cancel"), ("POST", "/retry"), ("DELETE", ""), ("GET", ""), ("GET", "/events")],
)
def test_nothing_can_be_done_with_no_task(client, method, suffix):
    error = error_of(client.request(method, f"/tasks/nobody{suffix}"), 404)
    assert error["code"] == "task_not_found"


# Deleting


def test_a_deleted_task_is_gone_with_its_pictures(client, services, completed):
    task = completed()
    url = client.get(f"/status/{task.id}").json()["result_urls"][0]
    assert client.delete(f"/tasks/{task.id}").status_code == 204
    assert services.results.pictures.names() == []
    for path in (f"/status/{task.id}", f"/download/{task.id}", url, f"/tasks/{task.id}"):
        assert error_of(client.get(path), 404)
    assert error_of(client.delete(f"/tasks/{task.id}"), 404)["code"] == "task_not_found"


def test_a_task_that_is_deleted_while_it_runs_is_cancelled_first(client, queue, running):
    ended = []
    queue.on_end(ended.append)
    task = running()
    assert client.delete(f"/tasks/{task.id}").status_code == 204
    assert ended == [task.id]
    assert queue.beat({(task.id, 1): 1}) == {(task.id, 1)}


# Trying again


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_task_without_pictures_can_be_tried_again_as_a_new_one(client, queue, running, state):
    task = running(seed=7, priority="high")
    if state == "failed":
        queue.fail((task.id, 1), "the disk is full")
    else:
        queue.cancel(task.id)
    answer = client.post(f"/tasks/{task.id}/retry")
    assert answer.status_code == 200
    again = queue.get(answer.json()["task_id"])
    assert again.id != task.id
    assert (again.params, again.state) == (task.params, TaskState.QUEUED)
    assert queue.get(task.id).state == state


def test_a_task_that_may_still_succeed_or_has_is_not_tried_again(client, running, completed):
    for task in (completed(), running()):
        error = error_of(client.post(f"/tasks/{task.id}/retry"), 409)
        assert error["code"] == "task_not_retryable"


def test_trying_again_twice_under_one_key_makes_one_task(client, queue, running):
    task = running()
    queue.cancel(task.id)
    header = {"Idempotency-Key": "once more"}
    answers = [client.post(f"/tasks/{task.id}/retry", headers=header) for _ in range(2)]
    assert answers[0].json()["task_id"] == answers[1].json()["task_id"]
    assert queue.counts()[TaskState.QUEUED] == 1


# Waiting


def test_a_status_may_wait_for_the_end(client, queue, running):
    task = running()
    timer = Timer(0.2, queue.complete, [(task.id, 1), ["x.png"], {}])
    timer.start()
    assert client.get(f"/status/{task.id}?wait=30").json()["status"] == "completed"
    timer.join()


def test_a_status_waits_no_longer_than_it_is_told(client, running):
    task = running()
    assert client.get(f"/status/{task.id}?wait=0.05").json()["status"] == "processing"


@pytest.mark.parametrize("wait", ["-1", "61", "inf", "long"])
def test_a_wait_that_cannot_be_is_refused(client, running, wait):
    assert problem_of(client.get(f"/status/{running().id}?wait={wait}"))["field"] == "wait"
