"""Reads the header of a safetensors file and compares it with the file's size.

Format: 8 bytes little-endian header length, a JSON header, then the tensor data
(https://huggingface.co/docs/safetensors). No tensor is read.
"""

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LFS_PREFIX = b"version https://git-lfs"
#: The format's own bound on a header.
_MAX_HEADER_BYTES = 100_000_000


class UnreadableWeightsError(ValueError):
    """A weight file is not whole; the message says how."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a weight file: its dtype in safetensors' words and its shape."""

    dtype: str
    shape: tuple[int, ...]

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
    return {
        name: TensorEntry(entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()
    }


def _parse(raw: bytes) -> dict[str, dict[str, Any]]:
    try:
        header: dict[str, dict[str, Any]] = json.loads(raw)
        header.pop("__metadata__", None)
        for entry in header.values():
            entry["dtype"], entry["shape"], entry["data_offsets"][1]
    except (ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
        raise UnreadableWeightsError("has no readable safetensors header") from error
    return header


def _check_size(size: int, data_start: int, header: dict[str, dict[str, Any]]) -> None:
    end = data_start + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if size < end:
        raise UnreadableWeightsError(f"is truncated: {size} bytes of {end}")
