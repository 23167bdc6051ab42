"""The published configuration, and random weights that all ways share."""

import pytest
import torch
from torch import nn

from benchmarks.full_size.bench import ENGINE, GROUPED, HOISTED, STOCK, Bench
from benchmarks.full_size.sizes import FULL, SIZES, SMALL
from benchmarks.full_size.ways import make_transformer
from benchmarks.full_size.weights import make_components, make_weights, parameters
from hidream_server.model_directory.components import LLAMA, T5
from tests.layouts.test_memory import PARAMETERS
from tests.model_directory.test_transformer_weights import PUBLISHED

META = torch.device("meta")


def test_the_full_size_is_the_published_one():
    assert FULL.transformer == PUBLISHED
    assert parameters(FULL) == PARAMETERS
    assert (FULL.image_tokens, SMALL.image_tokens) == (4096, 64)
    assert FULL.description().size_multiple == 16


@pytest.mark.parametrize("mixture", [None, "grouped_mm"])
def test_the_whole_network_can_be_put_together_and_has_17_billion_weights(mixture):
    weights = make_weights(FULL.transformer, META, torch.bfloat16)
    transformer = make_transformer(FULL, weights, mixture)
    found = list(transformer.parameters())
    assert sum(parameter.numel() for parameter in found) == 17_105_733_184
    assert sum(parameter.nbytes for parameter in found) == 34_211_466_368
    assert {parameter.dtype for parameter in found} == {torch.bfloat16}


def test_the_step_is_said_to_need_what_is_planned_for_it(bench: Bench):
    bench = Bench(FULL, bench.device, bench.kind, bench.budget, rounds=1)
    step, both = (bench.needed_bytes(1, components) for components in (False, True))
    assert 36e9 < step < 40e9
    assert both - step == 2 * (sum(PARAMETERS.values()) - PARAMETERS["transformer"])
    assert bench.needed_bytes(2, False) - step == 34_211_466_368


def test_all_ways_compute_with_the_same_tensors(bench: Bench):
    """An expert of diffusers' class is a part of the engine's, not a copy."""
    weights = bench.weights
    plain, grouped = (make_transformer(SMALL, weights, m) for m in (None, "grouped_mm"))
    stock, ours = plain.single_stream_blocks[1].block.ff_i, grouped.single_stream_blocks[1].block
    for number, expert in enumerate(stock.experts):
        for name in ("w1", "w2", "w3"):
            there = ours.ff_i.experts.matrix(number, name)
            assert getattr(expert, name).weight.data_ptr() == there.data_ptr()
            assert torch.equal(getattr(expert, name).weight, there)
    assert plain.x_embedder.proj.weight.data_ptr() == grouped.x_embedder.proj.weight.data_ptr()


def test_no_weight_is_zero_and_none_is_like_another(bench: Bench):
    for name, tensor in bench.weights.items():
        assert tensor.count_nonzero() == tensor.numel(), name
    experts = [tensor for name, tensor in bench.weights.items() if name.endswith("experts.w13")]
    assert len(experts) == 4
    assert not torch.equal(experts[0], experts[1])
    assert experts[0].std().item() == pytest.approx(128**-0.5, rel=0.02)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_components_are_made_on_the_device_in_the_dtype(size):
    components = make_components(size, META, torch.bfloat16)
    modules: list[nn.Module] = [encoder for _, encoder in components.text_encoders.values()]
    for module in [components.vae, *modules]:
        for parameter in module.parameters():
            assert (parameter.device, parameter.dtype) == (META, torch.bfloat16)
    assert torch.get_default_dtype() is torch.float32
    # Frequencies of rotary embeddings would lose their digits.
    _, llama = components.text_encoders[LLAMA.name]
    assert {buffer.dtype for buffer in llama.buffers()} == {torch.float32}
    tokenizer, t5 = components.text_encoders[T5.name]
    assert len(tokenizer) <= t5.config.vocab_size


def test_a_way_is_made_once_until_it_is_forgotten(bench: Bench):
    ways = {name: bench.way(name) for name in (STOCK, ENGINE, GROUPED, HOISTED)}
    assert all(bench.way(name) is way for name, way in ways.items())
    bench.forget(GROUPED)
    assert bench.way(GROUPED) is not ways[GROUPED]
