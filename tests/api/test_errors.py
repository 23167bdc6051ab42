"""One shape for every error, whatever was sent and whichever route it was sent to."""

import json
import logging

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hidream_server import errors
from hidream_server.api.errors import STATUS, status_of
from hidream_server.errors import (
    GroupLostError,
    HiDreamError,
    InvalidRequestError,
    PictureNotFoundError,
    RequestError,
    TaskNotFinishedError,
    TaskNotFoundError,
)
from hidream_server.task import TaskState
from tests.api.support import error_of, problem_of

JSON = {"content-type": "application/json"}


def post(client, body: str | bytes, path: str = "/submit"):
    """POST a body exactly as it is."""
    return client.post(path, content=body, headers=JSON)


# Routes


def test_a_route_that_does_not_exist_is_404(client):
    for path in ("/nothing", "/status/", "/images", "/submit/x"):
        assert error_of(client.get(path), 404)["code"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/submit", "POST"),
        ("GET", "/batch_submit", "POST"),
        ("DELETE", "/submit", "POST"),
        ("POST", "/health", "GET"),
        ("PUT", "/status/x", "GET"),
        ("POST", "/images/x.png", "GET"),
    ],
)
def test_a_method_that_a_route_does_not_have_is_405_and_names_the_one_it_has(
    client, method, path, allowed
):
    response = client.request(method, path)
    assert error_of(response, 405)["code"] == "method_not_allowed"
    assert response.headers["allow"] == allowed


# Bodies that are no request


@pytest.mark.parametrize("path", ["/submit", "/batch_submit"])
@pytest.mark.parametrize(
    "body", ["{", "{'prompt': 'a'}", "prompt=a", '{"prompt": "a"', b"\xff\xfe"]
)
def test_what_is_no_json_is_refused_as_the_body(client, path, body):
    problem = problem_of(post(client, body, path))
    assert (problem["field"], problem["value"]) == ("body", None)
    assert problem["allowed"].startswith("valid JSON")


@pytest.mark.parametrize("path", ["/submit", "/batch_submit"])
@pytest.mark.parametrize("body", ["", "null", "[]", "1", '"a"', "true"])
def test_json_that_is_no_object_is_refused_as_the_body(client, path, body):
    assert problem_of(post(client, body, path))["field"] == "body"


def test_json_under_another_content_type_is_refused_in_the_same_shape(client):
    response = client.post("/submit", content='{"prompt": "a"}', headers={"content-type": "text/x"})
    assert problem_of(response)["field"] == "body"


@pytest.mark.parametrize("depth", [100, 900, 950, 1000, 5000, 100_000])
@pytest.mark.parametrize("brackets", ["[]", ['{"a":', "}"]], ids=["lists", "objects"])
def test_json_of_any_depth_is_refused_in_the_same_shape(client, depth, brackets):
    opening, closing = brackets
    deep = opening * depth + "1" + closing * depth
    for body in (deep, f'{{"prompt": {deep}}}', f'{{"prompt": "a", "x": {deep}}}'):
        response = post(client, body)
        assert response.status_code in (400, 422)
        error_of(response, response.status_code)


@pytest.mark.parametrize("digits", [20, 400, 4300, 5000, 100_000])
@pytest.mark.parametrize("field", ["seed", "num_inference_steps", "guidance_scale", "prompt"])
@pytest.mark.parametrize("sign", ["", "-"])
def test_a_huge_number_is_refused_in_the_same_shape(client, digits, field, sign):
    number = sign + "9" * digits
    response = post(client, f'{{"prompt": "a", "{field}": {number}}}')
    assert response.status_code in (400, 422)
    error_of(response, response.status_code)
    assert len(response.content) < 2000


# Values that JSON or UTF-8 cannot carry


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
@pytest.mark.parametrize("field", ["guidance_scale", "seed", "num_inference_steps"])
def test_a_number_that_is_not_finite_is_refused(client, field, number):
    problem = problem_of(post(client, f'{{"prompt": "a", "{field}": {number}}}'))
    assert problem["field"] == field
    assert problem["value"] in ("nan", "inf", "-inf")


@pytest.mark.parametrize("field", ["prompt", "negative_prompt", "resolution", "infer_type"])
def test_a_lone_surrogate_is_refused_and_shown_escaped(client, field):
    problem = problem_of(post(client, json.dumps({"prompt": "a"} | {field: "x\ud800"})))
    assert problem["field"] == field
    assert problem["value"] == "x\\ud800"


def test_a_lone_surrogate_in_the_name_of_a_field_is_refused(client):
    assert problem_of(post(client, '{"prompt": "a", "\\ud800": 1}'))


def test_a_pair_of_surrogates_is_a_character(client, queue):
    response = post(client, '{"prompt": "\\ud83c\\udfa8"}')
    assert queue.get(response.json()["task_id"]).params.prompt == "🎨"


def test_a_wrong_value_is_given_back_but_not_all_of_a_long_one(client):
    assert problem_of(client.post("/submit", json={"prompt": ["a"]}))["value"] == "['a']"
    long = problem_of(client.post("/submit", json={"prompt": "x" * 100_000}))["value"]
    assert long.startswith("xxx")
    assert len(long) < 300


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
fields = st.sampled_from(
    [
        *("prompt", "negative_prompt", "resolution", "num_inference_steps", "guidance_scale"),
        *("num_images_per_prompt", "seed", "batch_size", "infer_type", "requests", "x"),
    ]
)


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(body=values | st.dictionaries(fields, values, max_size=4))
def test_any_json_is_accepted_or_refused_in_the_one_shape(client, body):
    for path in ("/submit", "/batch_submit"):
        response = post(client, json.dumps(body), path)
        if response.status_code != 200:
            error_of(response, 422)


# Errors of the server


@pytest.mark.parametrize(
    ("cls", "status"),
    [
        (InvalidRequestError, 422),
        (TaskNotFoundError, 404),
        (PictureNotFoundError, 404),
        (TaskNotFinishedError, 409),
        (RequestError, 400),
        (GroupLostError, 500),
    ],
)
def test_each_kind_of_error_has_its_status(cls, status):
    assert status_of(cls([]) if cls is InvalidRequestError else cls()) == status


def test_an_error_that_is_new_takes_the_status_of_its_base():
    class PictureExpiredError(PictureNotFoundError):
        """The picture has been deleted."""

    assert status_of(PictureExpiredError()) == 404


def test_every_status_in_the_table_belongs_to_an_error_of_the_tree():
    assert all(getattr(errors, cls.__name__) is cls for cls in STATUS)
    assert HiDreamError in STATUS


@pytest.fixture
def broken(app: FastAPI, client):
    """Return a function that makes GET /broken raise this error."""

    def breaks(error: Exception):
        @app.get("/broken")
        def route() -> None:
            raise error

        return client.get("/broken")

    return breaks


def test_an_error_of_the_tree_says_its_code_and_message(broken):
    error = error_of(broken(GroupLostError("rank 0 left")), 500)
    assert (error["code"], error["message"]) == ("group_lost", "rank 0 left")


def test_an_unexpected_error_is_logged_and_says_nothing_of_the_inside(broken, caplog):
    with caplog.at_level(logging.ERROR, "hidream_server"):
        response = broken(RuntimeError("password 1234 at /root/secret"))
    error = error_of(response, 500)
    assert error["code"] == "internal"
    for word in ("1234", "secret", "RuntimeError", "Traceback"):
        assert word not in response.text
    [record] = [r for r in caplog.records if r.name.startswith("hidream_server")]
    assert record.getMessage() == "GET /broken failed"
    assert "password 1234" in str(record.exc_info[1])


def test_a_database_that_fails_is_500_on_every_route_that_needs_it(client, queue, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error on /dev/sda1")

    for verb in ("get", "find", "counts", "submit"):
        monkeypatch.setattr(queue, verb, fail)
    answers = [
        client.get("/status/x"),
        client.get("/download/x"),
        client.get("/images/0d9f7c6e-1b2a-4c3d-8e4f-5a6b7c8d9e0f_0_0.png"),
        client.get("/health"),
        client.post("/submit", json={"prompt": "a"}),
        client.post("/batch_submit", json={"requests": [{"prompt": "a"}]}),
    ]
    for response in answers:
        assert error_of(response, 500)["code"] == "internal"
        assert "sda1" not in response.text


def test_a_request_that_is_refused_leaves_no_task(client, queue):
    for body in ("{", "{}", '{"prompt": "a", "seed": -1}', '{"prompt": "a", "seed": NaN}'):
        post(client, body)
        post(client, f'{{"requests": [{{"prompt": "ok"}}, {body}]}}', "/batch_submit")
    assert queue.counts() == dict.fromkeys(TaskState, 0)
