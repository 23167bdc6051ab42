"""What a request may ask for: each limit is checked, named, documented."""

import pytest

from hidream_server.api.limits import MAX_SEED, Limits
from hidream_server.api.schemas import GenerationRequest
from hidream_server.model_directory.description import DOCUMENTED_SIZES, Variant
from hidream_server.settings import Settings
from hidream_server.task import TaskState
from tests.api.support import error_of, problem_of

#: The numbers a field may have by default: field, lowest, highest.
RANGES = [
    ("num_inference_steps", 1, 200),
    ("guidance_scale", 0, 30),
    ("num_images_per_prompt", 1, 8),
    ("seed", 0, 2**53 - 1),
    ("batch_size", 1, 64),
]
WHOLE = [field for field, _, _ in RANGES if field != "guidance_scale"]


def submit(client, **fields):
    return client.post("/submit", json={"prompt": "a"} | fields)


# Numbers


@pytest.mark.parametrize(("field", "low", "high"), RANGES)
def test_both_ends_of_a_range_are_accepted(client, field, low, high):
    for value in (low, high):
        assert submit(client, **{field: value}).status_code == 200


@pytest.mark.parametrize(("field", "low", "high"), RANGES)
def test_a_number_out_of_range_is_refused_with_field_value_and_range(client, field, low, high):
    for value in (low - 1, high + 1, -(10**30), 10**30):
        problem = problem_of(submit(client, **{field: value}))
        assert problem["field"] == field
        assert problem["value"] in (value, float(value), str(value))
        assert problem["allowed"] == f"{low} to {high}"


def test_a_fraction_out_of_range_is_refused(client):
    assert problem_of(submit(client, guidance_scale=30.01))["value"] == 30.01
    assert problem_of(submit(client, guidance_scale=-0.01))["value"] == -0.01
    assert submit(client, guidance_scale=0.5).status_code == 200


@pytest.mark.parametrize("value", [True, False, "1", 1.0, 1.5, [1], {}], ids=repr)
@pytest.mark.parametrize("field", WHOLE)
def test_a_whole_number_is_nothing_else(client, field, value):
    problem = problem_of(submit(client, **{field: value}))
    assert problem["field"] == field
    assert "integer" in problem["allowed"]
    low, high = next((low, high) for name, low, high in RANGES if name == field)
    assert f"{low} to {high}" in problem["allowed"]


@pytest.mark.parametrize("value", [True, "5", [5], {}], ids=repr)
def test_the_guidance_scale_is_a_number(client, value):
    problem = problem_of(submit(client, guidance_scale=value))
    assert problem["field"] == "guidance_scale"
    assert "0 to 30" in problem["allowed"]


@pytest.mark.parametrize(
    ("option", "field"),
    [
        ("max_inference_steps", "num_inference_steps"),
        ("max_guidance_scale", "guidance_scale"),
        ("max_images_per_prompt", "num_images_per_prompt"),
    ],
)
def test_a_limit_is_what_the_settings_say(client_with, option, field):
    client = client_with(**{option: 3})
    assert submit(client, **{field: 3}).status_code == 200
    assert problem_of(submit(client, **{field: 4}))["allowed"].endswith(" to 3")


def test_every_seed_that_is_reported_is_exact_in_every_client(client):
    response = submit(client, seed=MAX_SEED, num_images_per_prompt=8)
    if response.status_code == 200:
        seeds = client.get(f"/status/{response.json()['task_id']}").json()["seeds"]
        assert max(seeds) <= MAX_SEED
    else:
        assert problem_of(response)["field"] == "seed"


# Text


def test_a_request_without_a_prompt_is_refused(client):
    problem = problem_of(client.post("/submit", json={}))
    assert (problem["field"], problem["value"]) == ("prompt", None)


@pytest.mark.parametrize("prompt", ["", " ", "\n\t ", "\u3000"])
def test_a_blank_prompt_is_refused(client, prompt):
    problem = problem_of(client.post("/submit", json={"prompt": prompt}))
    assert (problem["field"], problem["value"]) == ("prompt", prompt)
    assert "not blank" in problem["allowed"]


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_a_text_may_have_as_many_characters_as_the_settings_say(client_with, field):
    client = client_with(max_prompt_chars=5)
    assert submit(client, **{field: "五个字符吗"}).status_code == 200
    problem = problem_of(submit(client, **{field: "123456"}))
    assert (problem["field"], problem["value"]) == (field, "123456")
    assert problem["allowed"] == "at most 5 characters, this has 6"


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
@pytest.mark.parametrize("character", ["\x00", "\x08", "\x0b", "\x0c", "\x1b", "\x1f", "\x7f"])
def test_control_characters_are_refused(client, field, character):
    problem = problem_of(submit(client, **{field: f"a{character}b"}))
    assert (problem["field"], problem["value"]) == (field, f"a{character}b")


def test_tabs_and_line_ends_are_accepted(client):
    assert submit(client, prompt="a\tb\nc\r\nd").status_code == 200


@pytest.mark.parametrize("value", [None, 1, True, ["a"], {"a": 1}], ids=repr)
@pytest.mark.parametrize("field", ["prompt", "negative_prompt", "resolution"])
def test_a_text_is_nothing_else(client, field, value):
    problem = problem_of(submit(client, **{field: value}))
    assert problem["field"] == field
    assert "string" in problem["allowed"]


def test_a_priority_that_there_is_not_is_refused_with_those_that_there_are(client):
    problem = problem_of(submit(client, priority="urgent"))
    assert (problem["field"], problem["value"]) == ("priority", "urgent")
    for known in ("low", "normal", "high"):
        assert known in problem["allowed"]


def test_an_infer_type_that_there_is_not_is_refused_with_those_that_there_are(client):
    problem = problem_of(submit(client, infer_type="accuracy"))
    assert (problem["field"], problem["value"]) == ("infer_type", "accuracy")
    for name in ("Accuracy", "Performance", "Profiling"):
        assert name in problem["allowed"]


def test_a_field_that_there_is_not_is_refused_by_its_name(client):
    problem = problem_of(submit(client, steps=20))
    assert (problem["field"], problem["value"]) == ("steps", 20)


# Sizes


@pytest.mark.parametrize("size", DOCUMENTED_SIZES)
def test_the_documented_sizes_are_accepted(client, queue, size):
    task_id = submit(client, resolution=f"{size[0]}x{size[1]}").json()["task_id"]
    params = queue.get(task_id).params
    assert (params.width, params.height) == size


@pytest.mark.parametrize(
    "resolution",
    [
        *("", "1024", "1024x", "x1024", "1024x1024x1", "1024*1024", "1024X1024", "1024×1024"),
        *("1024x1025", "1000x1000", "2048x2048", "0x0", "0x64", "64x0", "-64x64", "64x-64"),
        *(" 1024x1024", "1024x1024 ", "1024x1024\n", "1024 x 1024", "1e3x64", "64.0x64"),
        *("999999x64", "١٠٢٤x1024", "１０２４x1024", "large"),
    ],
)
def test_another_size_is_refused_with_those_that_are_allowed(client, resolution):
    problem = problem_of(submit(client, resolution=resolution))
    assert (problem["field"], problem["value"]) == ("resolution", resolution)
    assert "1024x1024, 1024x768, 768x1024, 512x512" in problem["allowed"]
    assert "multiples of 64" in problem["allowed"]


# Defaults


@pytest.mark.parametrize(
    ("variant", "steps", "guidance"),
    [(Variant.FULL, 50, 5.0), (Variant.DEV, 28, 0.0), (Variant.FAST, 16, 0.0)],
)
def test_what_is_left_out_or_null_takes_the_default_of_the_variant(
    client_with, queue, variant, steps, guidance
):
    client = client_with(variant)
    nulls = {"num_inference_steps": None, "guidance_scale": None, "seed": None}
    for fields in ({}, nulls):
        params = queue.get(submit(client, **fields).json()["task_id"]).params
        assert (params.num_inference_steps, params.guidance_scale) == (steps, guidance)
        assert (params.width, params.height) == (1024, 1024)
        assert (params.num_images, params.negative_prompt) == (1, "")
        assert params.infer_type == "Accuracy"


def test_zero_is_a_value_not_an_absence(client, queue):
    params = queue.get(submit(client, guidance_scale=0, seed=0).json()["task_id"]).params
    assert (params.guidance_scale, params.seed) == (0.0, 0)


@pytest.mark.parametrize("variant", Variant)
def test_the_defaults_are_within_the_smallest_limits_they_can_be_given(services, variant):
    request = GenerationRequest(prompt="a")
    [params] = Limits(services.settings, services.model).accept([request])
    assert params.num_inference_steps <= Settings().max_inference_steps
    assert variant.default_guidance <= Settings().max_guidance_scale


# Several problems, several requests


def test_all_problems_of_a_request_are_named_at_once(client):
    response = submit(client, prompt=" ", seed=-1, resolution="1x1", num_images_per_prompt=9)
    problems = error_of(response, 422)["problems"]
    assert {p["field"]: p["value"] for p in problems} == {
        "prompt": " ",
        "seed": -1,
        "resolution": "1x1",
        "num_images_per_prompt": 9,
    }


def test_all_fields_of_the_wrong_form_are_named_at_once(client):
    response = submit(client, seed="1", guidance_scale=True, x=1)
    fields = [p["field"] for p in error_of(response, 422)["problems"]]
    assert sorted(fields) == ["guidance_scale", "seed", "x"]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"prompt": "b", "seed": -1}, "requests.1.seed"),
        ({"prompt": "b", "seed": True}, "requests.1.seed"),
        ({"prompt": "b", "x": 1}, "requests.1.x"),
        ({"prompt": ""}, "requests.1.prompt"),
        ({}, "requests.1.prompt"),
        ("b", "requests.1"),
    ],
)
def test_a_batch_is_accepted_all_or_none_and_names_request_and_field(client, queue, bad, field):
    body = {"requests": [{"prompt": "a"}, bad, {"prompt": "c"}]}
    assert problem_of(client.post("/batch_submit", json=body))["field"] == field
    assert queue.counts()[TaskState.QUEUED] == 0


def test_the_problems_of_every_request_of_a_batch_are_named_at_once(client):
    body = {"requests": [{"prompt": ""}, {"prompt": "a"}, {"prompt": "b", "seed": -1}]}
    problems = error_of(client.post("/batch_submit", json=body), 422)["problems"]
    assert [p["field"] for p in problems] == ["requests.0.prompt", "requests.2.seed"]


def test_a_batch_has_one_request_to_as_many_as_the_settings_say(client_with, queue):
    client = client_with(max_batch_requests=2)
    for count in (0, 3):
        body = {"requests": [{"prompt": "a"}] * count}
        problem = problem_of(client.post("/batch_submit", json=body))
        assert (problem["field"], problem["value"]) == ("requests", f"{count} requests")
        assert problem["allowed"] == "1 to 2 requests"
    assert queue.counts()[TaskState.QUEUED] == 0
    for count in (1, 2):
        body = {"requests": [{"prompt": "a"}] * count}
        assert client.post("/batch_submit", json=body).status_code == 200
    assert queue.counts()[TaskState.QUEUED] == 3


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "requests"), ({"requests": {}}, "requests"), ({"requests": None}, "requests")],
)
def test_a_batch_is_a_list_of_requests(client, body, field):
    assert problem_of(client.post("/batch_submit", json=body))["field"] == field


# Documentation


def schema(client):
    return client.get("/openapi.json").json()["components"]["schemas"]["GenerationRequest"]


@pytest.mark.parametrize(("field", "low", "high"), RANGES)
def test_the_openapi_document_states_each_range(client, field, low, high):
    stated = schema(client)["properties"][field]
    number = stated.get("anyOf", [stated])[0]
    assert (number["minimum"], number["maximum"]) == (low, high)
    assert stated["description"].endswith(f" {low} to {high}.")


def test_the_openapi_document_states_the_limits_of_this_server(client_with):
    stated = schema(client_with(max_prompt_chars=77, max_inference_steps=5))["properties"]
    assert stated["prompt"]["maxLength"] == 77
    assert stated["negative_prompt"]["maxLength"] == 77
    assert stated["num_inference_steps"]["anyOf"][0]["maximum"] == 5
    assert "multiples of 64" in stated["resolution"]["description"]


def test_the_openapi_document_is_the_same_each_time(client):
    assert schema(client) == schema(client)


def test_the_limits_of_one_server_are_not_those_of_another(client_with):
    schema(client_with(max_inference_steps=5))
    stated = schema(client_with(max_inference_steps=6))["properties"]["num_inference_steps"]
    assert stated["anyOf"][0]["maximum"] == 6
    assert stated["description"].count(" to ") == 1
