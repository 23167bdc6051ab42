"""The parts of a weight make up the whole, each number held as often as the plan says."""

from itertools import pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hidream_server.layouts.layout import Layout
from hidream_server.layouts.sharding import (
    expert_owner,
    local_part,
    local_shape,
    rank_parameters,
    span,
)
from hidream_server.model_directory.transformer_weights import expected_weights
from tests.layouts.configs import HIDREAM

GB = 1e9


@given(st.integers(0, 10_000), st.integers(1, 20), st.integers(1, 128))
def test_spans_are_in_order_without_gaps_and_almost_even(length, parts, granule):
    spans = [span(length, parts, n, granule) for n in range(parts)]
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    assert all(left[1] == right[0] for left, right in pairwise(spans))
    widths = [stop - start for start, stop in spans]
    assert max(widths) - min(widths) <= 2 * granule


@pytest.mark.parametrize("name", ["tp1", "tp2", "tp5", "tp4-ep2", "ep4", "cfg2-sp2-tp2", "tp2-ep4"])
def test_every_number_is_held_by_every_group_that_needs_it(name):
    layout = Layout.parse(name)
    shapes = {
        ".attn1.to_q.weight": (20, 8),
        ".attn1.to_q.bias": (20,),
        ".attn1.to_out.weight": (8, 20),
        ".attn1.to_out.bias": (8,),
        ".attn1.q_rms_norm_t.weight": (20,),
        ".ff_i.experts.1.w1.weight": (160, 8),
        ".ff_i.experts.3.w2.weight": (8, 160),
        ".ff_i.shared_experts.w3.weight": (160, 8),
        ".ff_t.w2.weight": (8, 160),
        ".ff_i.gate.weight": (4, 8),
        "final_layer.linear.weight": (16, 8),
    }
    for weight, shape in shapes.items():
        counts = np.zeros(shape, int)
        for rank in range(layout.ranks):
            part = local_part(weight, shape, 4, layout, rank)
            if part is not None:
                counts[part] += 1
                assert local_shape(weight, shape, 4, layout, rank) == counts[part].shape
        assert counts.min() == counts.max() > 0


def test_experts_are_dealt_out_in_order():
    assert [expert_owner(n, 4, Layout(ep=2)) for n in range(4)] == [0, 0, 1, 1]
    assert [expert_owner(n, 4, Layout(ep=4)) for n in range(4)] == [0, 1, 2, 3]
    # Not every number of ranks divides the experts; everyone still has one.
    assert [expert_owner(n, 4, Layout(ep=3)) for n in range(4)] == [0, 1, 2, 2]


@pytest.mark.parametrize(
    ("name", "most"), [("tp1", 34.3), ("tp2", 20.3), ("tp4", 13.5), ("tp4-ep2", 10.5)]
)
def test_the_real_model_fits_the_cards_it_is_meant_for(name, most):
    """In bf16: 34.2 GB on one card, at most 13.5 GB on each of four."""
    layout, weights = Layout.parse(name), expected_weights(HIDREAM)
    for rank in range(layout.ranks):
        held = 2 * rank_parameters(weights.items(), 4, layout, rank) / GB
        assert 0.9 * most < held <= most


def test_one_rank_holds_everything():
    weights = expected_weights(HIDREAM)
    everything = sum(prod(shape) for shape in weights.values())
    assert rank_parameters(weights.items(), 4, Layout(), 0) == everything == 17_105_733_184
