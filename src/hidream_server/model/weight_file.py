"""A safetensors file, of whose tensors parts are read into memory that is there.

Rows are read as bytes, by any number of threads. What cannot be read so, columns or another dtype,
is copied from the file's mapping: there, too, nothing else is read.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from hidream_server.model_directory.safetensors_header import UnreadableWeightsError, read_header


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of an open file."""

    name: str
    shape: tuple[int, ...]
    path: Path
    #: The open file's descriptor, and where in it the tensor begins.
    file: int
    offset: int
    #: What safetensors makes views of the file's mapping of.
    mapped: Any

    def read(self, part: tuple[slice, ...], into: Tensor) -> None:
        """Read a part, a slice for each dimension, into a tensor of its shape.

        Raises UnreadableWeightsError if the file ends before it, OSError if it cannot be read.
        """
        view = self.mapped[part]
        if not _is_run(view, into):
            into.copy_(view)
            return
        memory = memoryview(into.view(-1).view(torch.uint8).numpy())
        offset = self.offset + view.storage_offset() * view.itemsize
        while memory:
            count = os.preadv(self.file, [memory], offset)
            if count == 0:
                raise UnreadableWeightsError(f"{self.path} ends inside of {self.name}")
            memory, offset = memory[count:], offset + count


def _is_run(view: Tensor, into: Tensor) -> bool:
    """Say whether what is to be read is one run of bytes there and here, and the same ones."""
    return (
        (view.shape, view.dtype, view.device) == (into.shape, into.dtype, into.device)
        and view.is_contiguous()
        and into.is_contiguous()
    )


@contextmanager
def open_weights(path: Path) -> Iterator[list[StoredTensor]]:
    """Open a file; its tensors come in the order in which they lie there.

    Raises SafetensorError for a file that is not whole.
    """
    with safe_open(path, framework="pt") as mapping, path.open("rb", buffering=0) as file:
        header = read_header(path)
        start = 8 + int.from_bytes(file.read(8), "little")
        yield [
            StoredTensor(
                name,
                header[name].shape,
                path,
                file.fileno(),
                start + header[name].data_offsets[0],
                mapping.get_slice(name),
            )
            for name in mapping.offset_keys()
        ]
