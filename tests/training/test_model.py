"""The exported model loads, and training computes what is served."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hidream_server.demo import DEMO_MODEL_PATH
from training import settings
from training.counted import CountedTransformer, patches
from training.export import Components, export, fresh_components, load
from training.text import encode

CAPTIONS = ["a red circle on a blue background, top left", "", "日落时分的雪山和湖, xyzzy"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    export(fresh_components(0), folder)
    return folder


@pytest.fixture(scope="module")
def parts(model: Path) -> Components:
    return load(model)


def test_the_directories_have_the_published_layout(model):
    names = {path.name for path in (model / "HiDream-I1-Demo").iterdir()}
    assert {"model_index.json", "scheduler", "transformer", "vae", "tokenizer_3"} <= names
    assert not {"text_encoder_4", "tokenizer_4"} & names
    assert (model / "Llama-Demo" / "model.safetensors").exists()
    assert sum(path.stat().st_size for path in model.rglob("*") if path.is_file()) < 20e6


def test_exporting_again_replaces_the_whole_model(model, parts):
    export(parts, model)
    assert sorted(path.name for path in model.iterdir()) == ["HiDream-I1-Demo", "Llama-Demo"]


def test_every_caption_fits_and_none_is_unknown(parts):
    tokenizers = (parts.clip_tokenizer, parts.clip_tokenizer_2, parts.llama_tokenizer)
    for tokenizer in tokenizers:
        assert len(tokenizer) <= settings.VOCABULARY
        ids = tokenizer("Ünïcode 東京 🙂").input_ids
        assert max(ids) < settings.VOCABULARY
    assert len(parts.t5_tokenizer("a red circle").input_ids) == 4


@torch.no_grad()
def test_compact_text_is_the_full_text_without_its_repetitions(parts):
    full, compact = encode(parts, CAPTIONS), encode(parts, CAPTIONS, compact=True)
    assert full.t5.shape[1] == settings.TEXT_LENGTH > compact.t5.shape[1]
    torch.testing.assert_close(full.pooled, compact.pooled, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(full.t5[:, -1], compact.t5[:, -1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(full.llama[:, :, -1], compact.llama[:, :, -1], atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), settings.PICTURE_SIZES)
def test_training_computes_what_is_served(model, parts, height, width):
    full, compact = encode(parts, CAPTIONS), encode(parts, CAPTIONS, compact=True)
    size = (height // settings.VAE_FACTOR, width // settings.VAE_FACTOR)
    latents = torch.randn(3, settings.LATENT_CHANNELS, *size)
    timesteps = torch.tensor([900.0, 500.0, 10.0])
    stock = parts.transformer(latents, timesteps, full.t5, full.llama, full.pooled).sample
    counted = CountedTransformer(load(model).transformer)
    torch.testing.assert_close(
        counted(latents, timesteps, compact), patches(stock, 2), atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(
        counted.picture(latents, timesteps, compact), stock, atol=1e-4, rtol=1e-4
    )


def test_the_vocabularies_are_the_shipped_ones_whatever_the_hash_seed():
    code = (
        "from training.export import fresh_components\n"
        "parts = fresh_components(0)\n"
        "for tokenizer in (parts.clip_tokenizer, parts.clip_tokenizer_2, parts.t5_tokenizer,\n"
        "                  parts.llama_tokenizer):\n"
        "    print(sorted(tokenizer.get_vocab().items()))\n"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    shipped = load(DEMO_MODEL_PATH.parent)
    tokenizers = (
        shipped.clip_tokenizer,
        shipped.clip_tokenizer_2,
        shipped.t5_tokenizer,
        shipped.llama_tokenizer,
    )
    vocabularies = [sorted(tokenizer.get_vocab().items()) for tokenizer in tokenizers]
    assert printed == {"".join(f"{vocabulary}\n" for vocabulary in vocabularies)}
