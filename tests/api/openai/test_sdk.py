"""The official client, unmodified, on this server."""

import base64
import io
import threading
from dataclasses import replace

import httpx2
import openai
import pytest
from PIL import Image

from hidream_server.api.app import create_app
from hidream_server.errors import StoreUnavailableError
from hidream_server.keys import KeyLimits, Scope
from hidream_server.queue.bounds import Bounds
from hidream_server.store.reading import Wanted
from hidream_server.task import TaskState
from tests.api.openai.conftest import served
from tests.support import new_outlook, new_queue, params, submit

SIZE = "512x512"
ASKED = {"prompt": "a red circle", "size": SIZE}


def opened(b64: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(b64)))


def test_a_picture_as_base64(sdk, painter, services):
    answer = sdk.images.generate(model=services.model.name, **ASKED)
    [image] = answer.data
    assert opened(image.b64_json).format == "PNG"
    assert opened(image.b64_json).size == (512, 512)
    assert (answer.size, answer.output_format, answer.background) == (SIZE, "png", "opaque")
    assert answer.quality == "high"
    assert answer.usage.output_tokens == services.model.image_tokens(512, 512)
    assert answer.created > 1_700_000_000


def test_two_webp_pictures_by_their_addresses(sdk, painter):
    answer = sdk.images.generate(
        **ASKED, n=2, response_format="url", output_format="webp", output_compression=50
    )
    assert len({image.url for image in answer.data}) == 2
    for image in answer.data:
        fetched = httpx2.get(image.url)
        assert fetched.headers["content-type"] == "image/webp"
        assert Image.open(io.BytesIO(fetched.content)).format == "WEBP"
    assert answer.output_format == "webp"


def test_every_field_reaches_the_task(sdk, painter, queue):
    sdk.images.generate(
        prompt="红色的圆",
        size="512x768",
        n=2,
        quality="low",
        user="somebody",
        moderation="low",
        background="opaque",
        style="vivid",
        extra_body={
            "negative_prompt": "blur",
            "guidance_scale": 2.5,
            "seed": 7,
            "priority": "low",
            "infer_type": "Performance",
            "unheard_of": 1,
        },
    )
    [task] = queue.page(Wanted(), None, 10)[0]
    asked = task.params
    assert (asked.prompt, asked.negative_prompt) == ("红色的圆", "blur")
    assert (asked.width, asked.height, asked.num_images) == (512, 768, 2)
    assert (asked.guidance_scale, asked.seed, asked.priority) == (2.5, 7, "low")
    assert (asked.num_inference_steps, asked.infer_type) == (25, "Performance")
    assert asked.num_previews == 0


def test_without_a_size_the_default_is_painted_and_said(sdk, painter):
    for size in ({}, {"size": "auto"}):
        answer = sdk.images.generate(prompt="a red circle", **size)
        assert answer.size == "1024x1024"
        assert opened(answer.data[0].b64_json).size == (1024, 1024)


@pytest.mark.parametrize("wanted", [0, 1, 3])
def test_a_stream_shows_the_unfinished_picture_and_then_the_finished_one(sdk, painter, wanted):
    events = list(
        sdk.images.generate(**ASKED, stream=True, partial_images=wanted, output_format="jpeg")
    )
    partial = [e for e in events if e.type == "image_generation.partial_image"]
    # Of previews that are made faster than they are read the latest is seen.
    assert [event.partial_image_index for event in partial] == list(range(wanted))
    for event in partial:
        assert opened(event.b64_json).size == (128, 128)
    assert events[-1].type == "image_generation.completed"
    assert opened(events[-1].b64_json).format == "JPEG"
    assert opened(events[-1].b64_json).size == (512, 512)
    assert (events[-1].size, events[-1].output_format) == (SIZE, "jpeg")
    assert events[-1].usage.total_tokens > 0


def test_a_stream_of_several_images_completes_each(sdk, painter):
    events = list(sdk.images.generate(**ASKED, stream=True, n=2))
    assert [event.type for event in events] == ["image_generation.completed"] * 2


def test_models_are_listed_by_all_their_names(services, painter):
    settings = services.settings.model_copy(update={"model_aliases": "gpt-image-1, dall-e-3"})
    with (
        served(create_app(replace(services, settings=settings))) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="any") as sdk,
    ):
        names = [services.model.name, "gpt-image-1", "dall-e-3"]
        assert [model.id for model in sdk.models.list()] == names
        assert sdk.models.retrieve("dall-e-3").owned_by == "HiDream.ai"
        assert sdk.images.generate(**ASKED, model="gpt-image-1").data[0].b64_json


# Errors, each as the client's own class


def test_400_a_size_that_cannot_be(sdk):
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.images.generate(prompt="a red circle", size="500x500")
    assert caught.value.param == "size"
    assert caught.value.code == "invalid_request"
    assert caught.value.type == "invalid_request_error"
    assert "multiples of 64" in caught.value.message
    assert "size: 1024x1024" in caught.value.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 11}, "n"),
        ({"n": 0}, "n"),
        ({"partial_images": 4, "stream": True}, "partial_images"),
        ({"output_compression": 50}, "output_compression"),
        ({"output_compression": 101, "output_format": "webp"}, "output_compression"),
        ({"output_format": "gif"}, "output_format"),
        ({"background": "transparent"}, "background"),
        ({"response_format": "text"}, "response_format"),
        ({"quality": "superb"}, "quality"),
        ({"prompt": " "}, "prompt"),
        ({"extra_body": {"seed": -1}}, "seed"),
        ({"extra_body": {"num_inference_steps": 0}}, "num_inference_steps"),
    ],
)
def test_400_names_the_field(sdk, queue, fields, param):
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.images.generate(**(ASKED | fields))
    assert caught.value.param == param
    assert queue.counts() == dict.fromkeys(TaskState, 0)


def test_400_what_the_model_cannot_do(sdk):
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.images.edit(image=io.BytesIO(b"png"), prompt="make it blue")
    assert caught.value.code == "not_supported"


def test_401_without_a_good_key(keys, new_sdk, painter):
    _, text = keys.create("anna", Scope.GENERATE, KeyLimits(), 1.0)
    with pytest.raises(openai.AuthenticationError):
        new_sdk("guess").images.generate(**ASKED)
    assert new_sdk(text).images.generate(**ASKED).data


def test_404_another_model(sdk):
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.models.retrieve("sora")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        sdk.images.generate(**ASKED, model="sora")


def test_404_another_route(sdk):
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.embeddings.create(model="any", input="text")
    assert caught.value.code == "not_found"


def test_429_is_tried_again_by_the_client_itself_and_succeeds(services, store, painter):
    painter.works.clear()
    outlook = new_outlook()
    outlook.know({64: {1: 0.01, 2: 0.02}}, {64: 0.1})
    queue = new_queue(store, outlook, bounds=Bounds(queued=1))
    submit(queue, [params()])
    with (
        served(create_app(replace(services, queue=queue))) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0) as impatient,
        openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=5) as patient,
    ):
        with pytest.raises(openai.RateLimitError) as caught:
            impatient.images.generate(**ASKED)
        assert int(caught.value.response.headers["retry-after"]) >= 1
        refused: list[int] = []
        patient._client.event_hooks = {"response": [lambda r: refused.append(r.status_code)]}
        timer = threading.Timer(0.3, painter.works.set)
        timer.start()
        assert patient.images.generate(**ASKED).data
        timer.join()
    assert refused[0] == 429
    assert refused[-1] == 200


def test_503_while_the_database_is_away(sdk, store, monkeypatch):
    def away(*_: object, **__: object) -> None:
        raise StoreUnavailableError

    monkeypatch.setattr(store, "check", away)
    with pytest.raises(openai.InternalServerError) as caught:
        sdk.images.generate(**ASKED)
    assert caught.value.status_code == 503
    assert int(caught.value.response.headers["retry-after"]) >= 1
    assert caught.value.response.headers["x-should-retry"] == "true"


def test_500_a_task_that_failed_is_not_tried_again(new_sdk, painter, queue):
    painter.failing = "the disk is full"
    sdk = new_sdk(retries=3)
    with pytest.raises(openai.InternalServerError) as caught:
        sdk.images.generate(**ASKED)
    assert caught.value.status_code == 500
    assert "the disk is full" in caught.value.message
    assert queue.counts()[TaskState.FAILED] == 1
    # It was accepted: that it failed is no refusal.
    assert 'status="refused"' not in httpx2.get(sdk.base_url.join("/metrics")).text
    with pytest.raises(openai.APIError, match="the disk is full"):
        list(sdk.images.generate(**ASKED, stream=True))


def test_every_answer_has_a_request_id(sdk, painter):
    raw = sdk.images.with_raw_response.generate(**ASKED)
    assert raw.headers["x-request-id"]
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.images.generate(prompt="", size=SIZE)
    assert caught.value.request_id


# Clients that leave


def wait_for(queue, state: TaskState, count: int) -> None:
    deadline = threading.Event()
    for _ in range(2000):
        if queue.counts()[state] == count:
            return
        deadline.wait(0.005)
    raise AssertionError(queue.counts())


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_leaves_takes_its_task_with_it(address, painter, queue, streamed):
    painter.works.clear()
    sdk = openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0, timeout=0.5)
    with sdk, pytest.raises(openai.APITimeoutError):
        for _ in sdk.images.generate(**ASKED, stream=streamed):
            pass
    wait_for(queue, TaskState.CANCELLED, 1)


@pytest.mark.parametrize("streamed", [False, True])
def test_with_a_key_of_its_own_it_may_ask_again(address, painter, queue, streamed):
    painter.works.clear()
    named = {"extra_headers": {"Idempotency-Key": "mine"}, "stream": streamed}
    with openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0, timeout=0.5) as sdk:
        with pytest.raises(openai.APITimeoutError):
            for _ in sdk.images.generate(**ASKED, **named):
                pass
        painter.works.set()
        answer = sdk.with_options(timeout=10).images.generate(**ASKED, **named)
        assert list(answer) if streamed else answer.data
    assert sum(queue.counts().values()) == queue.counts()[TaskState.COMPLETED] == 1
