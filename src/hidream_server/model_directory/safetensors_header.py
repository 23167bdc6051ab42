"""Reads the header of a safetensors file and compares it with the file's size.

Format: 8 bytes little-endian header length, a JSON header, then the tensor data
(https://huggingface.co/docs/safetensors). No tensor is read.
"""

import math
import struct
from pathlib import Path
from typing import Annotated

import msgspec

_LFS_PREFIX = b"version https://git-lfs"
#: The format's own bound on a header.
_MAX_HEADER_BYTES = 100_000_000

Size = Annotated[int, msgspec.Meta(ge=0)]


class UnreadableWeightsError(ValueError):
    """A weight file is not whole; the message says how."""


class TensorEntry(msgspec.Struct, frozen=True):
    """One tensor of a weight file: its dtype in safetensors' words, its shape, where it ends."""

    dtype: str
    shape: tuple[Size, ...]
    data_offsets: tuple[Size, Size]

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, TensorEntry]:
    """Return the tensors of a weight file; raise UnreadableWeightsError if it is not whole."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(len(_LFS_PREFIX))
        if start == _LFS_PREFIX:
            raise UnreadableWeightsError("is a Git LFS pointer, not the file; run git lfs pull")
        if size < 8:
            raise UnreadableWeightsError(f"is truncated: {size} bytes")
        (length,) = struct.unpack("<Q", start[:8])
        if length > min(size - 8, _MAX_HEADER_BYTES):
            raise UnreadableWeightsError(f"is truncated or not safetensors: {size} bytes")
        file.seek(8)
        header = _parse(file.read(length))
    _check_size(size, 8 + length, header)
    return header


def _parse(raw: bytes) -> dict[str, TensorEntry]:
    try:
        header = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        header.pop("__metadata__", None)
        return {
            name: msgspec.json.decode(entry, type=TensorEntry) for name, entry in header.items()
        }
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableWeightsError("has no readable safetensors header") from error


def _check_size(size: int, data_start: int, header: dict[str, TensorEntry]) -> None:
    end = data_start + max((entry.data_offsets[1] for entry in header.values()), default=0)
    if size < end:
        raise UnreadableWeightsError(f"is truncated: {size} bytes of {end}")
