"""Pictures in other formats than the PNG that they are stored as.

Knows bytes; who may have a picture, and how many are made at once, is not its business.
"""

import io
import json
from collections.abc import Mapping
from enum import StrEnum

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngImageFile

from hidream_server.errors import FieldProblem, InvalidRequestError

#: The best quality that there is.
MAX_COMPRESSION = 100
#: A JPEG has room for one block of 64 KiB.
_MAX_JPEG_EXIF_BYTES = 65_000
#: How the field for a user's comments says that UTF-16 follows.
_UTF16 = b"UNICODE\0"


class Format(StrEnum):
    """What a picture's file may be."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def media_type(self) -> str:
        return f"image/{self}"


def convert(
    png: bytes, to: Format, compression: int | None, field: str = "output_compression"
) -> bytes:
    """Return a picture in another format, its texts with it; a PNG stays as it is, to the byte.

    `compression` is 0 to 100; 100, also without, is the best quality. Raises InvalidRequestError,
    naming `field`, for a PNG with one.
    """
    if to is Format.PNG:
        if compression is not None:
            raise InvalidRequestError([FieldProblem(field, compression, "none with png")])
        return png
    file = io.BytesIO()
    with PngImageFile(io.BytesIO(png)) as image:
        about = {name: str(text) for name, text in image.text.items()}
        image.save(
            file,
            to,
            quality=MAX_COMPRESSION if compression is None else compression,
            exif=_jpeg_exif(about) if to is Format.JPEG else _exif(about),
            # Of a JPEG: with fewer colours than pixels, edges bleed at any quality.
            subsampling="4:4:4",
        )
    return file.getvalue()


def _exif(about: Mapping[str, str]) -> bytes:
    """Return texts as JSON in the field for a user's comments, which viewers show."""
    exif = Image.Exif()
    comment = json.dumps(about, ensure_ascii=False).encode("utf-16-be")
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _UTF16 + comment
    return exif.tobytes()


def _jpeg_exif(about: Mapping[str, str]) -> bytes:
    """Return texts as a JPEG has room for them: the longest are left out first."""
    kept = dict(about)
    while len(exif := _exif(kept)) > _MAX_JPEG_EXIF_BYTES:
        del kept[max(kept, key=lambda name: len(kept[name]))]
    return exif
