"""What is the same in every step is made once: caption projections and rotary tables."""

import pytest
import torch
from diffusers import HiDreamImageTransformer2DModel
from torch import Tensor

from hidream_server.demo import DEMO_MODEL_PATH
from hidream_server.model.captions import take_captions
from hidream_server.model.positions import remember_positions


@pytest.fixture
def transformer() -> HiDreamImageTransformer2DModel:
    return HiDreamImageTransformer2DModel.from_pretrained(DEMO_MODEL_PATH, subfolder="transformer")


def call(transformer: HiDreamImageTransformer2DModel, t5: Tensor, llama: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return transformer(
        hidden_states=torch.randn(1, 16, 8, 8, generator=generator),
        timesteps=torch.tensor([500.0]),
        encoder_hidden_states_t5=t5,
        encoder_hidden_states_llama3=llama,
        pooled_embeds=torch.randn(1, 128, generator=generator),
        return_dict=False,
    )[0]


@torch.inference_mode()
def test_what_was_projected_before_gives_the_same_output(transformer) -> None:
    t5, llama = torch.randn(1, 128, 64), torch.randn(2, 1, 128, 64)
    expected = call(transformer, t5, llama)
    captions = take_captions(transformer)
    assert [name for name, _ in transformer.named_parameters() if "caption" in name] == []
    projected_t5, projected_llama = captions(t5, llama)
    # One for each of six blocks, though the Llama has two layers.
    assert (projected_t5.shape, projected_llama.shape) == ((1, 128, 96), (6, 1, 128, 96))
    assert torch.equal(call(transformer, projected_t5, projected_llama), expected)


@torch.inference_mode()
def test_a_table_is_made_once_for_a_grid_and_a_length(transformer, monkeypatch) -> None:
    embed = transformer.pe_embedder
    positions, made = remember_positions(transformer), []
    monkeypatch.setattr(embed, "forward", lambda ids: made.append(ids) or _table(ids))
    near, far = torch.ones(1, 5, 3), torch.full((1, 5, 3), 9.0)
    for grids, ids in [
        ([(1, 5)], near),
        ([(1, 5), (5, 1)], torch.cat([near, far])),
        ([(1, 5), (1, 5)], torch.cat([near, near])),
        ([(1, 5)], torch.ones(1, 7, 3)),
    ]:
        positions.grids = grids
        table = positions(ids)
        assert torch.equal(table.expand(len(ids), -1, -1), _table(ids))
    assert [tuple(ids.shape) for ids in made] == [(1, 5, 3), (1, 5, 3), (1, 7, 3)]


def _table(ids: Tensor) -> Tensor:
    return ids * 2
