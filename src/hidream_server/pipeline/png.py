"""Pixels → a PNG file that says how it was made."""

import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

#: Quick to write; the slowest level saves few per cent and takes many times as long.
_COMPRESSION = 1


def encode_png(
    pixels: NDArray[np.uint8], about: Mapping[str, str], size: tuple[int, int] | None = None
) -> bytes:
    """Return a PNG of [height, width, 3] pixels with `about` in its text chunks.

    It is scaled to `size`, width and height, if that is given.
    """
    chunks = PngInfo()
    for key, value in about.items():
        chunks.add_itxt(key, value)
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    if size is not None:
        image = image.resize(size, Image.Resampling.BICUBIC)
    image.save(file, "PNG", pnginfo=chunks, compress_level=_COMPRESSION)
    return file.getvalue()
