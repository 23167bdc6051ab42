"""Pages of tasks."""

import pytest

from tests.api.support import problem_of


def submit(client, **fields):
    return client.post("/submit", json={"prompt": "a red circle"} | fields).json()["task_id"]


def ids(client, **query):
    answer = client.get("/tasks", params=query)
    assert answer.status_code == 200, answer.text
    return [task["task_id"] for task in answer.json()["tasks"]]


def test_the_latest_come_first_and_look_like_their_status(client):
    first, second = submit(client), submit(client)
    answer = client.get("/tasks").json()
    assert [task["task_id"] for task in answer["tasks"]] == [second, first]
    for task in answer["tasks"]:
        status = client.get(f"/status/{task['task_id']}").json()
        assert {**task, "estimated_time": 0} == {**status, "estimated_time": 0}
    assert answer["next_cursor"] is None


def test_pages_have_each_task_once_though_others_come_meanwhile(client):
    submitted = [submit(client) for _ in range(7)]
    seen, cursor = [], None
    while True:
        query = {"limit": 3} | ({} if cursor is None else {"cursor": cursor})
        page = client.get("/tasks", params=query).json()
        seen.append([task["task_id"] for task in page["tasks"]])
        submit(client)
        if (cursor := page["next_cursor"]) is None:
            break
    assert [len(page) for page in seen] == [3, 3, 1]
    assert [task_id for page in seen for task_id in page] == submitted[::-1]


def test_a_page_that_is_just_full_is_the_last(client):
    for _ in range(3):
        submit(client)
    assert client.get("/tasks?limit=3").json()["next_cursor"] is None


def test_only_tasks_in_a_state(client, completed):
    done, queued = completed().id, submit(client)
    assert ids(client, status="completed") == [done]
    assert ids(client, status="queued") == [queued]
    assert ids(client, status="failed") == []


def test_only_tasks_with_these_words_in_their_prompt(client):
    wanted = submit(client, prompt="A 50% discount_sign on a Door")
    submit(client, prompt="a 500 discount sign")
    assert ids(client, prompt="50% Discount_sign") == [wanted]
    assert ids(client, prompt="%") == [wanted]


def test_only_tasks_of_a_time(client):
    first, second = submit(client), submit(client)
    created = client.get(f"/status/{second}").json()["created_at"]
    assert ids(client, created_after=created) == [second]
    assert ids(client, created_before=created) == [first]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("limit", 0),
        ("limit", 101),
        ("status", "lost"),
        ("cursor", "x"),
        ("cursor", 10**20),
        ("prompt", "a\0b"),
        ("created_after", "yesterday"),
        ("created_after", "2026-01-01T00:00:00"),
    ],
)
def test_a_wrong_filter_is_named(client, field, value):
    assert problem_of(client.get("/tasks", params={field: value}))["field"] == field
