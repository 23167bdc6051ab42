"""A picture's file holds its pixels and its story."""

import io

import numpy as np
from PIL import Image

from hidream_server.pipeline.png import encode_png


def test_pixels_and_texts_come_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    about = {"prompt": "一个红色的圆\nzweite Zeile", "seed": "42"}
    with Image.open(io.BytesIO(encode_png(pixels, about))) as image:
        assert image.size == (12, 8)
        assert image.text == about
        np.testing.assert_array_equal(np.asarray(image), pixels)
