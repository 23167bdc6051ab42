"""Parts of a file's tensors are read as safetensors itself would give them."""

import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hidream_server.model.weight_file import open_weights
from hidream_server.model_directory.safetensors_header import UnreadableWeightsError

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8]
PARTS = {
    "whole": (slice(0, 40), slice(0, 30)),
    "rows": (slice(11, 29), slice(0, 30)),
    "one row": (slice(39, 40), slice(0, 30)),
    "columns": (slice(0, 40), slice(7, 19)),
    "a run inside of a row": (slice(4, 5), slice(7, 19)),
    "both": (slice(3, 9), slice(29, 30)),
    "nothing": (slice(3, 3), slice(0, 30)),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of every dtype a matrix, and a vector between them so that nothing is aligned."""
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, Tensor] = {"scalar": torch.tensor(2.5)}
    for dtype in DTYPES:
        noise = torch.randint(0, 200, (40, 30), generator=generator)
        tensors[f"{dtype}"] = noise.to(dtype)
        tensors[f"{dtype} vector"] = noise[0, :7].clone().to(dtype)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(tensors, path, metadata={"of": "a test"})
    return path


@pytest.mark.parametrize("into", [torch.float32, torch.bfloat16, torch.int64, torch.uint8])
@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_a_part_is_what_safetensors_gives(
    path: Path, part: tuple[slice, ...], into: torch.dtype
) -> None:
    with open_weights(path) as tensors, safe_open(path, framework="pt") as file:
        for tensor in tensors:
            mine = part[: len(tensor.shape)] if tensor.shape == (40, 30) else _whole(tensor.shape)
            expected = file.get_tensor(tensor.name)[mine].to(into)
            found = torch.empty_like(expected)
            tensor.read(mine, found)
            assert torch.equal(found, expected), tensor.name


def _whole(shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(0, length) for length in shape)


def test_rows_are_read_into_what_is_not_in_one_piece(path: Path) -> None:
    with open_weights(path) as tensors:
        [tensor] = [tensor for tensor in tensors if tensor.name == "torch.float32"]
        room = torch.zeros(40, 31)
        tensor.read(_whole((40, 30)), room[:, :30])
        assert torch.equal(room[:, :30], tensor.mapped[:])
        assert not room[:, 30].any()


def test_tensors_come_as_they_lie(path: Path) -> None:
    with open_weights(path) as tensors:
        offsets = [tensor.offset for tensor in tensors]
        names = {tensor.name for tensor in tensors}
        with safe_open(path, framework="pt") as file:
            assert names == set(file.keys())
    assert offsets == sorted(offsets)


def test_what_comes_in_pieces_is_put_together(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk may give less than it was asked for."""
    whole = os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda file, buffers, offset: whole(file, [buffers[0][:100]], offset)
    )
    with open_weights(path) as tensors:
        for tensor in tensors:
            found = torch.empty_like(tensor.mapped[...])
            tensor.read(_whole(tensor.shape), found)
            assert torch.equal(found, tensor.mapped[...])


def test_a_file_that_shrinks_is_said_to_end_inside_of_a_tensor(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(path.read_bytes())
    with open_weights(copy) as tensors:
        last = tensors[-1]
        # The mapping of what is gone must not be touched, which safetensors does at its begin.
        os.truncate(copy, last.offset + 1)
        with pytest.raises(UnreadableWeightsError, match=f"copy.safetensors ends.*{last.name}"):
            last.read(_whole(last.shape), torch.empty_like(last.mapped[...]))


def test_a_file_that_is_not_whole_is_refused(path: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(SafetensorError, match="not fully covered"), open_weights(cut):
        pass
