"""In every layout a rank reads its part as one thread would, tensor by tensor."""

from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import HiDreamImageTransformer2DModel
from msgspec import structs
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from hidream_server.demo import DEMO_MODEL_PATH
from hidream_server.layouts.choice import possible
from hidream_server.layouts.layout import Layout
from hidream_server.layouts.sharding import local_part
from hidream_server.model import copying
from hidream_server.model.copying import Copy
from hidream_server.parallel import loading
from hidream_server.parallel.loading import load_network
from hidream_server.parallel.place import Place, alone
from tests.late_card import put_late_card
from tests.layouts.configs import HIDREAM
from tests.parallel.thread_ranks import run_ranks

FOLDER: Path = DEMO_MODEL_PATH / "transformer"
CPU = torch.device("cpu")
#: What a rank reads is told by tp and ep; guidance and sequence give all ranks the same.
LAYOUTS = [
    *(
        str(layout)
        for layout in possible(structs.replace(HIDREAM, num_attention_heads=4), 8)
        if layout.cfg == layout.sp == 1
    ),
    "cfg2-sp2",
    "cfg2-tp2-ep2",
    "sp2-tp2-ep2",
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The demo model's weights, which are kept in 16 bit, in three files."""
    folder = tmp_path_factory.mktemp("shards")
    [whole] = FOLDER.glob("*.safetensors")
    weights = load_file(whole)
    files = [folder / f"{number}.safetensors" for number in range(3)]
    for number, path in enumerate(files):
        save_file({name: weights[name] for name in list(weights)[number::3]}, path)
    return files


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PIECE_BYTES", 60_000)
    monkeypatch.setattr(copying, "_threads", lambda _processes: 3)


def read_one_by_one(
    transformer: HiDreamImageTransformer2DModel, path: Path, layout: Layout, rank: int
) -> None:
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - not a mapping
            tensor = file.get_tensor(name)
            part = local_part(name, tuple(tensor.shape), 4, layout, rank)
            if part is not None:
                loading._destination(transformer, name).copy_(tensor[part])


def weights(files: list[Path], dtype: torch.dtype, place: Place) -> dict[str, Tensor]:
    network = load_network(FOLDER, files, place, CPU, dtype, "loop")
    modules = (network._transformer, network._captions)
    return {f"{n}.{k}": v for n, m in enumerate(modules) for k, v in m.state_dict().items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_read_is_what_one_thread_reads(
    shards: list[Path], monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    def load(dtype: torch.dtype) -> list[dict[str, Tensor]]:
        return run_ranks(Layout.parse(layout), partial(weights, shards, dtype))

    with monkeypatch.context() as patch:
        patch.setattr(loading, "_read", read_one_by_one)
        expected = load(torch.float32)
    _equal(load(torch.float32), expected, torch.float32)
    put_late_card(monkeypatch)
    _equal(load(torch.bfloat16), expected, torch.bfloat16)


def _equal(
    found: list[dict[str, Tensor]], expected: list[dict[str, Tensor]], dtype: torch.dtype
) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, tensor in one.items():
            assert tensor.dtype == dtype
            assert torch.equal(tensor, other[name].to(dtype)), name


def test_a_rank_reads_nothing_of_the_others(
    shards: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All ranks of a layout that cuts everything read no more than what they hold."""
    read: list[int] = []

    def count(copies: list[Copy], _device: torch.device, ranks: int) -> None:
        assert ranks == 4
        for copy in copies:
            lengths = [share.stop - share.start for share in copy.part]
            assert lengths == list(copy.target.shape)
        read.append(sum(copy.target.numel() for copy in copies))

    monkeypatch.setattr(loading, "copy_all", count)
    held = [
        sum(tensor.numel() for tensor in rank.values())
        for rank in run_ranks(Layout.parse("tp2-ep2"), partial(weights, shards, torch.float32))
    ]
    assert sum(read) == sum(held)


def test_a_file_that_is_not_whole_is_refused(shards: list[Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(shards[0].read_bytes()[:-100])
    with pytest.raises(Exception, match="not fully covered"):
        weights([cut], torch.float32, alone())


def test_a_tensor_of_no_use_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"no_such.weight": torch.zeros(3)}, path)
    with pytest.raises(AttributeError, match="no_such"):
        weights([path], torch.float32, alone())
