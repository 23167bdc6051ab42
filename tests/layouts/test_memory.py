"""The memory plan of the published model, and its refusal."""

from dataclasses import replace
from pathlib import Path

import pytest

from hidream_server.errors import LayoutUnavailableError
from hidream_server.layouts.layout import Layout
from hidream_server.layouts.memory import (
    OVERHEAD_BYTES,
    Room,
    check_memory,
    plan_memory,
    prompt_values,
)
from hidream_server.model_directory.description import Component, ModelDescription, Variant
from tests.layouts.configs import HIDREAM

#: The published checkpoint's components and their parameters.
PARAMETERS = {
    "transformer": 17_105_733_184,
    "vae": 83_819_683,
    "text_encoder": 123_781_632,
    "text_encoder_2": 694_840_320,
    "text_encoder_3": 4_762_310_656,
    "text_encoder_4": 7_504_924_672,
}


@pytest.fixture
def model() -> ModelDescription:
    return ModelDescription(
        name="HiDream-I1-Full",
        path=Path("HiDream-I1-Full"),
        extra_path=None,
        variant=Variant.FULL,
        sampler="UniPCMultistepScheduler",
        is_demo=False,
        size_multiple=16,
        max_image_tokens=4096,
        transformer=HIDREAM,
        components=tuple(
            Component(name, "", Path(), (), count) for name, count in PARAMETERS.items()
        ),
    )


def room(gib: float | None, offload: str = "auto") -> Room:
    return Room(
        device_bytes=None if gib is None else int(gib * 2**30),
        dtype_bytes=2,
        prompt_cache_bytes=2**29,
        max_running=8,
        offload=offload,
    )


def check(model: ModelDescription, name: str, room: Room) -> None:
    layout = Layout.parse(name)
    check_memory(plan_memory(model, layout, room), room, layout)


def test_without_waiting_one_card_of_64_gb_is_not_enough_and_one_of_80_is(model):
    with pytest.raises(LayoutUnavailableError, match=r"rank 0 needs 65\.0 GB .* 63\.2 GB"):
        check(model, "tp1", room(64, "never"))
    check(model, "tp1", room(80, "never"))


def test_one_card_of_64_gb_is_enough_when_as_little_as_it_takes_waits(model):
    [rank] = plan_memory(model, Layout(), room(65))
    assert set(rank.offloaded) == {"text_encoder_2", "text_encoder_3"}
    [rank] = plan_memory(model, Layout(), room(64))
    assert set(rank.offloaded) == {"text_encoder_3", "text_encoder_4"}
    check(model, "tp1", room(64))


def test_a_picture_may_be_decoded_beside_a_step_and_more_rows_take_more(model):
    [two], [four] = (plan_memory(model, Layout(), replace(room(80), rows=n)) for n in (2, 4))
    decoding = 2 * 4096 * 16**2 * 4 * 128
    assert two.working > OVERHEAD_BYTES + decoding
    assert four.working - two.working == pytest.approx(2.0e9, rel=0.5)


def test_the_largest_that_waits_has_room_for_its_visit(model):
    [all_wait] = plan_memory(model, Layout(), room(None, "always"))
    [none_wait] = plan_memory(model, Layout(), room(None, "never"))
    sizes = {name: 2 * count for name, count in PARAMETERS.items()}
    assert all_wait.components == {"vae": sizes["vae"]}
    assert set(none_wait.components) == set(PARAMETERS) - {"transformer"}
    assert none_wait.offloaded == {}
    moved = sizes["text_encoder"] + sizes["text_encoder_2"] + sizes["text_encoder_3"]
    assert none_wait.total - all_wait.total == moved
    with pytest.raises(LayoutUnavailableError, match="does not fit"):
        check(model, "tp1", room(all_wait.total / 2**30))


def test_four_cards_of_32_gb_are_enough(model):
    check(model, "tp4", room(32, "never"))


def test_every_component_is_on_one_rank_and_the_autoencoder_on_the_first(model):
    ranks = plan_memory(model, Layout(tp=4), room(32))
    names = [name for rank in ranks for name in rank.components]
    assert sorted(names) == sorted(set(PARAMETERS) - {"transformer"})
    assert "vae" in ranks[0].components
    assert {tuple(sorted(rank.components)) for rank in ranks if len(rank.components) == 1} >= {
        ("text_encoder_3",),
        ("text_encoder_4",),
    }


def test_embeddings_of_a_prompt_are_32_mb(model):
    """0.66 for each of 48 blocks and for T5, in 16 bit."""
    assert 2 * prompt_values(model.transformer) == pytest.approx(32.1e6, rel=0.01)


def test_what_is_not_known_is_not_refused_and_nothing_waits(model):
    check(model, "tp1", room(None))
    [rank] = plan_memory(model, Layout(), room(None))
    assert rank.offloaded == {}


@pytest.mark.parametrize(("layout", "copied"), [(Layout(), 13.8e9), (Layout(tp=4), 3.5e9)])
def test_for_fp8_the_products_weights_are_held_once_more_in_a_byte_each(model, layout, copied):
    exact, lossy = (plan_memory(model, layout, replace(room(None), fp8=f)) for f in (False, True))
    for one, other in zip(exact, lossy, strict=True):
        assert other.transformer - one.transformer == pytest.approx(copied, rel=0.02)
        # A tensor of two rows' tokens, twice the experts' width, in 32 bit.
        rounding = 4 * 2 * 4480 * 2 * 6912 / layout.tp
        assert other.working - one.working == pytest.approx(rounding, rel=0.01)
