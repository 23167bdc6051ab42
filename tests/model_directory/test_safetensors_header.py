"""Reading the header of a weight file, and telling a file that is not whole."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from hidream_server.model_directory.safetensors_header import (
    TensorEntry,
    UnreadableWeightsError,
    read_header,
)

TENSORS = {
    "a.weight": np.zeros((3, 4), np.float32),
    "b": np.ones((5,), np.float16),
    "scalar": np.array(1.0, np.float32),
    "empty": np.zeros((0, 7), np.float32),
}


def written(folder: Path, data: bytes) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(data)
    return path


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def entry(**changes: object) -> bytes:
    """Return a whole file with one tensor whose entry is changed."""
    fields = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes
    return with_header(json.dumps({"t": fields}).encode(), bytes(8))


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableWeightsError) as caught:
        read_header(path)
    return str(caught.value)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_the_tensors_of_a_real_file_are_named_with_dtype_and_shape(tmp_path, metadata):
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path, metadata)
    assert {name: (entry.dtype, entry.shape) for name, entry in read_header(path).items()} == {
        "a.weight": ("F32", (3, 4)),
        "b": ("F16", (5,)),
        "scalar": ("F32", ()),
        "empty": ("F32", (0, 7)),
    }


def test_parameters_are_the_product_of_the_shape():
    assert TensorEntry("F32", (3, 4), (0, 0)).parameters == 12
    assert TensorEntry("F32", (), (0, 0)).parameters == 1
    assert TensorEntry("F32", (0, 7), (0, 0)).parameters == 0


def test_a_file_without_tensors_is_whole(tmp_path):
    assert read_header(written(tmp_path, save({}))) == {}


def test_a_file_cut_anywhere_is_refused_with_its_size(tmp_path):
    whole = save(TENSORS)
    for length in range(len(whole)):
        assert f": {length} bytes" in refusal(written(tmp_path, whole[:length]))


def test_a_file_cut_in_its_data_says_how_long_it_should_be(tmp_path):
    whole = save(TENSORS)
    assert f"{len(whole) - 1} bytes of {len(whole)}" in refusal(written(tmp_path, whole[:-1]))


def test_an_lfs_pointer_is_called_by_its_name_with_the_fix(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4987202208\n"
    message = refusal(written(tmp_path, pointer))
    assert "Git LFS pointer" in message
    assert "git lfs pull" in message


NOT_SAFETENSORS = {
    "empty": b"",
    "zip": b"PK\x03\x04" + bytes(100),
    "html": b"<html><body>404 Not Found</body></html>",
    "length of exabytes": struct.pack("<Q", 2**63) + bytes(100),
    "length above the format's bound": struct.pack("<Q", 100_000_001) + bytes(100),
    "no JSON": with_header(b"not json"),
    "no UTF-8": with_header(b"\xff\xfe"),
    "list": with_header(b"[]"),
    "null": with_header(b"null"),
    "deep": with_header(b"[" * 100_000),
    "tensor is a number": with_header(b'{"t": 1}'),
    "no offsets": with_header(b'{"t": {"dtype": "F32", "shape": [2]}}'),
    "no dtype": with_header(b'{"t": {"shape": [2], "data_offsets": [0, 8]}}', bytes(8)),
    "one offset": entry(data_offsets=[0]),
    "offset is text": entry(data_offsets=[0, "8"]),
    "offset is null": entry(data_offsets=[0, None]),
    "shape is null": entry(shape=None),
    "shape is a number": entry(shape=2),
    "shape of text": entry(shape=["a"]),
}


@pytest.mark.parametrize("data", NOT_SAFETENSORS.values(), ids=NOT_SAFETENSORS)
def test_what_is_no_safetensors_file_is_refused_and_never_another_error(tmp_path, data):
    assert refusal(written(tmp_path, data))


def test_a_file_that_is_not_there_is_said_to_be_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "none.safetensors")


def test_a_file_of_60_gb_is_read_at_once(tmp_path):
    size = 60 * 2**30
    header = json.dumps({"t": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}})
    path = written(tmp_path, with_header(header.encode()))
    with path.open("r+b") as file:
        file.truncate(8 + len(header) + size)
    assert read_header(path)["t"].parameters == size
