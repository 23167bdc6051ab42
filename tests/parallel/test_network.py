"""Every layout computes what one rank computes with diffusers' own class."""

from functools import partial
from itertools import product
from pathlib import Path

import pytest
import torch
from diffusers import HiDreamImageTransformer2DModel
from msgspec import structs

from hidream_server.layouts.choice import possible
from hidream_server.layouts.layout import Layout
from hidream_server.model.moe import RoutedExperts, SparseFeedForward
from hidream_server.parallel.attention import ParallelAttentionProcessor
from hidream_server.parallel.feed_forward import ParallelSparseFeedForward
from hidream_server.parallel.loading import load_network
from hidream_server.parallel.network import Network
from hidream_server.parallel.place import Place, alone
from tests.layouts.configs import HIDREAM
from tests.parallel.thread_ranks import run_ranks

_TEXT = 12


def _model(heads: int) -> HiDreamImageTransformer2DModel:
    torch.manual_seed(heads)
    model = HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=4,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=heads,
        caption_channels=[24, 32],
        text_emb_dim=40,
        num_routed_experts=4,
        num_activated_experts=2,
        axes_dims_rope=(4, 6, 6),
        max_resolution=(16, 16),
        llama_layers=[0, 1, 1, 1],
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    found = {}
    for heads in (4, 20):
        folder = tmp_path_factory.mktemp(f"heads{heads}")
        model = _model(heads)
        model.save_pretrained(folder)
        found[heads] = (model, folder)
    return found


def _inputs(rows: int, height: int, width: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(height * width + rows)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "latents": randn(rows, 4, height, width),
        "timesteps": torch.tensor([700.0, 300.0, 20.0, 999.0])[:rows],
        "t5": randn(rows, _TEXT, 24),
        "llama": randn(2, rows, _TEXT, 32),
        "pooled": randn(rows, 40),
    }


@torch.inference_mode()
def _expected(model: HiDreamImageTransformer2DModel, inputs: dict) -> torch.Tensor:
    return model(
        hidden_states=inputs["latents"],
        timesteps=inputs["timesteps"],
        encoder_hidden_states_t5=inputs["t5"],
        encoder_hidden_states_llama3=inputs["llama"],
        pooled_embeds=inputs["pooled"],
        return_dict=False,
    )[0]


def _rank_network(folder: Path, place: Place) -> Network:
    files = folder.glob("*.safetensors")
    return load_network(
        folder, files, place, torch.device("cpu"), torch.float32, mixture="grouped_mm"
    )


@torch.inference_mode()
def _outputs(network: Network, inputs: dict) -> list[torch.Tensor]:
    """Return one output for each row; latents may be a list of rows of different shapes."""
    t5, llama = network.project(inputs["t5"], inputs["llama"])
    latents = [latent.view(1, *latent.shape[-3:]) for latent in inputs["latents"]]
    return network(latents, inputs["timesteps"], t5, llama, inputs["pooled"])


def _rank_output(folder: Path, inputs: dict, place: Place) -> torch.Tensor:
    return torch.cat(_outputs(_rank_network(folder, place), inputs))


#: Every layout that four heads allow on up to eight ranks, and some that need twenty.
LAYOUTS = [
    *((4, str(layout)) for layout in possible(structs.replace(HIDREAM, num_attention_heads=4), 8)),
    *((20, name) for name in ("tp5", "sp5", "tp4-ep2", "sp8")),
]
#: Square and padded for all; full, padded to a square and with fewer tokens than ranks for some.
CASES = [
    *(product(LAYOUTS, [(8, 8), (6, 10)])),
    *(product([(4, name) for name in ("sp4", "sp8", "cfg2-sp2")], [(16, 16), (6, 6), (2, 2)])),
]


@pytest.mark.parametrize(("split", "size"), CASES, ids=str)
def test_a_layout_computes_what_one_rank_computes(models, split, size):
    heads, layout = split
    model, folder = models[heads]
    for rows in (1, 2):
        inputs = _inputs(rows, *size)
        outputs = run_ranks(Layout.parse(layout), partial(_rank_output, folder, inputs))
        expected = _expected(model, inputs)
        assert expected.std() > 0.05
        for output in outputs:
            torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


#: All of as many tokens as the largest square, which is one of them; two of one shape.
RAGGED = [(6, 10), (16, 16), (10, 6), (6, 10)]


@pytest.mark.parametrize("layout", ["tp1", "cfg2", "sp2", "tp2", "ep2", "cfg2-sp4", "tp2-ep2"])
def test_rows_of_different_shapes_are_what_they_are_alone(models, layout):
    model, folder = models[4]
    inputs = _inputs(len(RAGGED), 16, 16)
    inputs["latents"] = [_inputs(1, *size)["latents"] for size in RAGGED]

    def mixed(place: Place) -> list[torch.Tensor]:
        return _outputs(_rank_network(folder, place), inputs)

    for outputs in run_ranks(Layout.parse(layout), mixed):
        assert len(outputs) == len(RAGGED)
        for number, output in enumerate(outputs):
            expected = _expected(model, _row(inputs, number))
            torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


def _row(inputs: dict, number: int) -> dict:
    one = slice(number, number + 1)
    rows = {name: inputs[name][one] for name in ("timesteps", "t5", "pooled")}
    return rows | {"latents": inputs["latents"][number], "llama": inputs["llama"][:, one]}


def test_rows_of_different_lengths_are_refused(models):
    _, folder = models[4]
    inputs = _inputs(2, 16, 16)
    inputs["latents"] = [inputs["latents"][:1], inputs["latents"][1:, :, :8, :8]]
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        _outputs(_rank_network(folder, alone()), inputs)


@pytest.mark.parametrize("size", [(8, 8), (6, 10), (16, 16)])
def test_one_rank_with_a_loop_computes_the_same_bits(models, size):
    """Also with what was remembered from a step before, and whatever shapes came between."""
    model, folder = models[4]
    files = folder.glob("*.safetensors")
    network = load_network(folder, files, alone(), torch.device("cpu"), torch.float32, "loop")
    for rows in (2, 1, 2):
        inputs = _inputs(rows, *size)
        _outputs(network, _inputs(1, 10, 6))
        assert torch.equal(torch.cat(_outputs(network, inputs)), _expected(model, inputs))


def _no_reduce(self, parts, norms):
    return [_norm_alone(part, norm) for part, norm in zip(parts, norms, strict=True)]


def _norm_alone(part: torch.Tensor, norm: torch.nn.RMSNorm) -> torch.Tensor:
    return torch.nn.functional.rms_norm(part, part.shape[-1:], norm.weight, norm.eps)


def _bias_everywhere(self, attn, attended, streams, suffixes):
    pieces = attended.split([stream.shape[1] for stream in streams], 1)
    outputs = [
        self._ranks.all_reduce(getattr(attn, f"to_out{suffix}")(piece))
        for piece, suffix in zip(pieces, suffixes, strict=True)
    ]
    return outputs[0] if attn.single else tuple(outputs)


def _wrong_expert(self, expert, name):
    return RIGHT_MATRIX(self, self.first + (expert - self.first + 1) % self.count, name)


def _route_alone(self, tokens):
    ids, weights = SparseFeedForward.route(self, tokens)
    return ids.roll(self._ranks.index, 0), weights


RIGHT_MATRIX = RoutedExperts.matrix


@pytest.mark.parametrize(
    ("owner", "method", "fault"),
    [
        (ParallelAttentionProcessor, "_normalise", _no_reduce),
        (ParallelAttentionProcessor, "_output", _bias_everywhere),
        (RoutedExperts, "matrix", _wrong_expert),
        (ParallelSparseFeedForward, "route", _route_alone),
    ],
)
def test_a_planted_fault_is_seen(models, monkeypatch, owner, method, fault):
    """The comparison above means something: each of these would pass unseen by shape alone."""
    model, folder = models[4]
    inputs = _inputs(2, 8, 8)
    monkeypatch.setattr(owner, method, fault)
    outputs = run_ranks(Layout.parse("tp2-ep2"), partial(_rank_output, folder, inputs))
    assert (outputs[0] - _expected(model, inputs)).abs().max() > 1e-3


def test_ranks_that_would_choose_differently_follow_the_first(models, monkeypatch):
    """Near a tie, rounding may make ranks choose different experts; the sum must not suffer."""
    model, folder = models[4]
    inputs = _inputs(1, 8, 8)
    right = SparseFeedForward.route

    def different(self, tokens):
        ids, weights = right(self, tokens)
        return (ids if self._ranks.index == 0 else 3 - ids), weights

    monkeypatch.setattr(SparseFeedForward, "route", different)
    outputs = run_ranks(Layout.parse("tp2"), partial(_rank_output, folder, inputs))
    torch.testing.assert_close(outputs[1], _expected(model, inputs), atol=1e-5, rtol=1e-5)
