"""The memory plan of the published model, and its refusal."""

from pathlib import Path

import pytest

from hidream_server.errors import LayoutUnavailableError
from hidream_server.layouts.layout import Layout
from hidream_server.layouts.memory import RankMemory, check_memory, plan_memory
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


def plan(model: ModelDescription, layout: str) -> list[RankMemory]:
    return plan_memory(model, Layout.parse(layout), dtype_bytes=2, prompt_cache_bytes=2**29)


def test_one_card_of_64_gb_is_not_enough_and_one_of_80_is(model):
    ranks = plan(model, "tp1")
    with pytest.raises(LayoutUnavailableError, match=r"rank 0 needs 63\.\d GB .* 63\.2 GB"):
        check_memory(ranks, 64 * 2**30, Layout())
    check_memory(ranks, 80 * 2**30, Layout())


def test_four_cards_of_32_gb_are_enough(model):
    check_memory(plan(model, "tp4"), 32 * 2**30, Layout(tp=4))


def test_every_component_is_on_one_rank_and_the_autoencoder_on_the_first(model):
    ranks = plan(model, "tp4")
    names = [name for rank in ranks for name in rank.components]
    assert sorted(names) == sorted(set(PARAMETERS) - {"transformer"})
    assert "vae" in ranks[0].components
    assert {tuple(sorted(rank.components)) for rank in ranks if len(rank.components) == 1} >= {
        ("text_encoder_3",),
        ("text_encoder_4",),
    }


def test_what_is_not_known_is_not_refused(model):
    check_memory(plan(model, "tp1"), None, Layout())
