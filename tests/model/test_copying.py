"""Many tensors are copied at once, whatever way they go, as one thread copies them."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from hidream_server.model import copying
from hidream_server.model.copying import Copy, copy_all
from tests.late_card import LateCard, put_late_card

CPU = torch.device("cpu")
Pair = tuple[Tensor, Tensor]

#: What a piece is in these tests: a little longer than a row of the widest.
PIECE = 700


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PIECE_BYTES", PIECE)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(4)))


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> LateCard:
    return put_late_card(monkeypatch)


def pairs() -> list[Pair]:
    """Tensors of many shapes: whole, rows, columns, of another dtype, of a stacked target."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    stacked = torch.zeros(3, 40, 25)
    return [
        (noise(33, 170), torch.zeros(33, 170)),
        (noise(33, 171, dtype=torch.bfloat16), torch.zeros(33, 171, dtype=torch.bfloat16)),
        (noise(60, 90)[13:47], torch.zeros(34, 90)),
        (noise(60, 90)[:, 31:62], torch.zeros(60, 31)),
        (noise(50, 64), torch.zeros(50, 64, dtype=torch.bfloat16)),
        (noise(20, 25), stacked[1, :20]),
        (noise(20, 25), stacked[1, 20:]),
        (noise(7, 4, 3, 3), torch.zeros(7, 4, 3, 3)),
        (noise(2, 300), torch.zeros(2, 300)),
        (noise(5), torch.zeros(5)),
        (torch.tensor(7), torch.zeros((), dtype=torch.int64)),
        (noise(0, 8), torch.zeros(0, 8)),
    ]


def copies(pairs: list[Pair]) -> list[Copy]:
    return [Copy.whole(source, target) for source, target in pairs]


def copy_one_by_one(pairs: list[Pair]) -> None:
    for source, target in pairs:
        target.copy_(source)


def same_bytes(found: list[Pair], expected: list[Pair]) -> bool:
    return all(
        torch.equal(one.view(-1).view(torch.uint8), other.view(-1).view(torch.uint8))
        for (_, one), (_, other) in zip(found, expected, strict=True)
    )


def test_what_arrives_is_what_one_thread_copies() -> None:
    found, expected = pairs(), pairs()
    copy_one_by_one(expected)
    copy_all(copies(found), CPU)
    assert same_bytes(found, expected)


def test_so_it_is_by_way_of_buffers_that_a_device_reads_late(card: LateCard) -> None:
    found, expected = pairs(), pairs()
    copy_one_by_one(expected)
    copy_all(copies(found), CPU)
    assert card.on_its_way == 0
    assert same_bytes(found, expected)


def test_a_buffer_that_is_filled_too_early_would_be_seen(
    card: LateCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison above means something."""
    found, expected = pairs(), pairs()
    copy_one_by_one(expected)
    monkeypatch.setattr(copying._Buffer, "wait", lambda _buffer: None)
    copy_all(copies(found), CPU)
    card.arrive(card.on_its_way)
    assert not same_bytes(found, expected)


@pytest.mark.parametrize(("rows", "count"), [(1, 1), (3 * PIECE, 3), (99 * PIECE, 8)])
def test_pinned_memory_is_bounded(card: LateCard, rows: int, count: int) -> None:
    """Two buffers for each of four threads, and no more than there are pieces."""
    pair = (torch.ones(rows, dtype=torch.uint8), torch.zeros(rows, dtype=torch.uint8))
    copy_all(copies([pair]), CPU)
    assert card.pinned == [min(rows, PIECE)] * count


def test_a_row_longer_than_a_piece_is_one(card: LateCard) -> None:
    source, target = torch.ones(2, 3 * PIECE), torch.zeros(2, 3 * PIECE)
    copy_all(copies([(source, target)]), CPU)
    assert card.pinned == [target.nbytes // 2] * 2
    assert torch.equal(source, target)


@pytest.mark.parametrize("prepare", [lambda _patch: None, put_late_card])
def test_the_first_error_is_raised(
    monkeypatch: pytest.MonkeyPatch, prepare: Callable[[pytest.MonkeyPatch], object]
) -> None:
    """More of them than buffers: nobody waits for one that is never free again."""
    prepare(monkeypatch)
    wrong = [(torch.zeros(5), torch.zeros(4)) for _ in range(30)]
    with pytest.raises(RuntimeError, match="The size of tensor a"):
        copy_all(copies([*pairs(), *wrong]), CPU)


def test_nothing_is_copied_without_a_fault(card: LateCard) -> None:
    copy_all([], CPU)
    assert card.pinned == []


@pytest.mark.parametrize(
    ("cores", "processes", "threads"),
    [(1, 1, 1), (1, 4, 1), (2, 1, 2), (16, 1, 8), (64, 8, 8), (24, 8, 3), (4, 8, 1)],
)
def test_as_many_threads_as_cores_and_no_more_than_help(
    monkeypatch: pytest.MonkeyPatch, cores: int, processes: int, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(cores)))
    assert copying._threads(processes) == threads


def test_torch_has_its_threads_again_afterwards() -> None:
    """In a thread that has not used them before, too; while copies are made they have one each."""
    before, during = torch.get_num_threads(), []

    class Asking:
        def read(self, part: tuple[slice, ...], into: Tensor) -> None:
            during.append(torch.get_num_threads())

    def work() -> int:
        copy_all([Copy(Asking(), (slice(0, 3),), torch.zeros(3)) for _ in range(8)], CPU)
        return torch.get_num_threads()

    def in_a_new_thread(work: Callable[[], int]) -> int:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(work).result()

    torch.set_num_threads(2)
    try:
        assert in_a_new_thread(work) == 2
        assert work() == 2
        assert in_a_new_thread(torch.get_num_threads) == 2
        assert set(during) == {1}
    finally:
        torch.set_num_threads(before)
