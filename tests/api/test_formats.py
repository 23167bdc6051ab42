"""A picture in another format is the same picture and tells the same story."""

import io
import json

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from hidream_server.api.formats import Format, convert
from hidream_server.errors import InvalidRequestError
from tests.support import psnr

ABOUT = {"prompt": "一个红色的圆 🎨\nzweite Zeile", "negative_prompt": "", "seed": "42"}
LOSSY = [Format.JPEG, Format.WEBP]


def pixels() -> np.ndarray:
    """Return red and blue halves with a smooth change of light."""
    light = np.linspace(80, 255, 96, dtype=np.uint8)
    made = np.zeros((64, 96, 3), dtype=np.uint8)
    made[:32, :, 0] = light
    made[32:, :, 2] = light
    return made


def png(about: dict[str, str]) -> bytes:
    chunks = PngInfo()
    for name, text in about.items():
        chunks.add_itxt(name, text)
    file = io.BytesIO()
    Image.fromarray(pixels()).save(file, "PNG", pnginfo=chunks)
    return file.getvalue()


def texts_of(picture: bytes) -> dict[str, str]:
    """Read a converted picture's texts as any viewer of EXIF would."""
    with Image.open(io.BytesIO(picture)) as image:
        comment = image.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
    assert comment[:8] == b"UNICODE\0"
    return dict(json.loads(comment[8:].decode("utf-16-be")))


@pytest.mark.parametrize("to", LOSSY)
def test_a_converted_picture_has_the_format_the_pixels_and_the_texts(to):
    made = convert(png(ABOUT), to, None)
    with Image.open(io.BytesIO(made)) as image:
        assert image.format == to.upper()
        assert Image.MIME[image.format] == to.media_type
        assert (image.size, image.mode) == ((96, 64), "RGB")
        assert psnr(np.asarray(image), pixels()) > 30
    assert texts_of(made) == ABOUT


def test_a_png_stays_what_it_is():
    stored = png(ABOUT)
    assert convert(stored, Format.PNG, None) is stored


def test_a_png_with_a_compression_is_refused_under_the_name_of_the_field():
    with pytest.raises(InvalidRequestError) as caught:
        convert(png({}), Format.PNG, 80, "compression")
    [problem] = caught.value.problems
    assert (problem.field, problem.value, problem.allowed) == ("compression", 80, "none with png")


@pytest.mark.parametrize("to", LOSSY)
def test_more_compression_is_better_quality_and_100_is_the_default(to):
    files = [convert(png({}), to, compression) for compression in (0, 50, 100)]
    sizes = [len(file) for file in files]
    assert sizes == sorted(set(sizes))
    qualities = []
    for file in files:
        with Image.open(io.BytesIO(file)) as image:
            qualities.append(psnr(np.asarray(image), pixels()))
    assert qualities == sorted(qualities)
    assert convert(png({}), to, None) == files[-1]


@pytest.mark.parametrize("to", LOSSY)
def test_a_picture_without_texts_says_nothing(to):
    assert texts_of(convert(png({}), to, 80)) == {}


def test_a_jpeg_leaves_out_the_longest_text_where_it_has_no_room_for_all():
    about = ABOUT | {"prompt": "长" * 20_000, "negative_prompt": "长" * 30_000}
    kept = {name: text for name, text in about.items() if name != "negative_prompt"}
    assert texts_of(convert(png(about), Format.JPEG, 80)) == kept
    assert texts_of(convert(png(about), Format.WEBP, 80)) == about
