"""The official client on a real server with the demo model."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from PIL import Image

from tests.e2e.server import Server

DOCS = Path(__file__).parent.parent.parent / "docs"
ASKED = {"prompt": "a red circle on a blue background", "size": "512x512"}
FEW = {"num_inference_steps": 8, "seed": 3}


@pytest.fixture
def sdk(server: Server) -> Iterator[openai.OpenAI]:
    base = str(server.client.base_url).rstrip("/")
    with openai.OpenAI(base_url=f"{base}/v1", api_key="any", timeout=180) as client:
        yield client


def test_a_stream_shows_the_picture_as_it_comes_out_of_the_noise(sdk: openai.OpenAI) -> None:
    events = list(
        sdk.images.generate(**ASKED, stream=True, partial_images=3, extra_body=FEW)  # type: ignore[call-overload]
    )
    pictures = [
        Image.open(io.BytesIO(base64.b64decode(event.b64_json))).convert("RGB") for event in events
    ]
    assert [event.type.rpartition(".")[2] for event in events] == [
        *("partial_image",) * (len(events) - 1),
        "completed",
    ]
    assert 1 <= len(events) - 1 <= 3
    small = [(128, 128)] * (len(events) - 1)
    assert [picture.size for picture in pictures] == [*small, (512, 512)]
    # Each is another one, and they come nearer to what is painted.
    finished = pictures[-1].resize((128, 128))
    distances = [distance(picture, finished) for picture in pictures[:-1]]
    assert distances == sorted(distances, reverse=True)


def test_the_same_seed_is_the_same_picture_as_on_the_other_routes(
    sdk: openai.OpenAI, server: Server
) -> None:
    answer = sdk.images.generate(**ASKED, extra_body=FEW)  # type: ignore[call-overload]
    own = server.submit(prompt=ASKED["prompt"], resolution=ASKED["size"], **FEW)
    assert base64.b64decode(answer.data[0].b64_json) == server.pictures(own)[0]


def distance(one: Image.Image, other: Image.Image) -> float:
    pairs = zip(one.tobytes(), other.tobytes(), strict=True)
    return sum(abs(a - b) for a, b in pairs) / len(one.tobytes())
