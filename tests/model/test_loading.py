"""The loader gives the real classes, without what is never used."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchLCMScheduler, UniPCMultistepScheduler

from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.model import loading
from hidream_server.model.loading import LoadedModel, load_model
from hidream_server.model.offloading import OffloadedModule
from hidream_server.model_directory.components import TRANSFORMER, VAE, WEIGHTED
from hidream_server.model_directory.reading import describe
from tests.late_card import put_late_card
from tests.support import demo_copy

#: Everything but the network, which is loaded elsewhere.
NAMES = {kind.name for kind in WEIGHTED} - {TRANSFORMER.name}


@pytest.fixture(scope="module")
def description():
    return describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_component_has_the_dtype_asked_for(description, dtype: torch.dtype) -> None:
    model = load_model(description, torch.device("cpu"), dtype, NAMES)
    encoders = [encoder for _, encoder in model.text_encoders.values()]
    for module in (model.vae, *encoders):
        assert {parameter.dtype for parameter in module.parameters()} == {dtype}
        assert not module.training


def test_only_what_was_asked_for_is_loaded(description) -> None:
    model = load_model(description, torch.device("cpu"), torch.float32, {"text_encoder_3"})
    assert model.vae is None
    assert set(model.text_encoders) == {"text_encoder_3"}


def test_only_encoders_that_wait_are_kept_from_the_device(description) -> None:
    model = load_model(description, torch.device("meta"), torch.float32, NAMES, {"text_encoder_4"})
    offloaded = {
        name for name, (_, part) in model.text_encoders.items() if isinstance(part, OffloadedModule)
    }
    assert offloaded == {"text_encoder_4"}


def test_what_is_moved_to_a_card_is_what_was_loaded(
    description, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the buffers that are in no file, and what is used twice still one."""
    plain, moved = (
        load_model(description, torch.device("cpu"), torch.float32, NAMES) for _ in range(2)
    )
    card = put_late_card(monkeypatch)
    for name in NAMES:
        expected, module = (_module(model, name) for model in (plain, moved))
        before = {tensor.data_ptr() for tensor in loading._tensors(module)}
        found = loading._tensors(loading._move(module, torch.device("cpu"), 1))
        assert before.isdisjoint(tensor.data_ptr() for tensor in found)
        for one, other in zip(found, loading._tensors(expected), strict=True):
            assert torch.equal(one, other)
        assert len(list(module.parameters())) == len(list(expected.parameters()))
    assert card.pinned


def _module(model: LoadedModel, name: str) -> torch.nn.Module:
    return model.vae if name == VAE.name else model.text_encoders[name][1]


def test_the_llama_has_no_head(description) -> None:
    model = load_model(description, torch.device("cpu"), torch.float32, NAMES)
    assert not any(
        "lm_head" in name for name, _ in model.text_encoders["text_encoder_4"][1].named_parameters()
    )


def test_every_image_gets_a_fresh_sampler_of_the_checkpoint(description, fast_model: Path) -> None:
    full = load_model(description, torch.device("cpu"), torch.float32, NAMES)
    fast = load_model(
        describe(fast_model, DEMO_EXTRA_MODEL_PATH), torch.device("cpu"), torch.float32, NAMES
    )
    assert isinstance(full.new_scheduler(), UniPCMultistepScheduler)
    assert full.new_scheduler() is not full.new_scheduler()
    assert isinstance(fast.new_scheduler(), FlowMatchLCMScheduler)
    assert fast.new_scheduler().config.shift == 3.0


def test_the_published_form_of_a_clip_tokenizer_gives_the_same_tokens(tmp_path: Path) -> None:
    """The published directories hold vocab.json and merges.txt, the demo model tokenizer.json."""
    model = demo_copy(tmp_path)
    folder = model / "tokenizer"
    whole = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(whole["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in whole["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    tokens = []
    for path in (model, DEMO_MODEL_PATH):
        loaded = load_model(
            describe(path, DEMO_EXTRA_MODEL_PATH), torch.device("cpu"), torch.float32, NAMES
        )
        tokenizer, _ = loaded.text_encoders["text_encoder"]
        prompt = "A red circle on a blue background, 一个红色的圆"
        tokens.append(tokenizer(prompt, padding="max_length", max_length=128).input_ids)
    assert tokens[0] == tokens[1]
