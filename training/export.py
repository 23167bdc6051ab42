"""Writes the model directory in the layout of the published checkpoints, and reads it back.

Knows the file layout only; what the weights have learned is not its business.
"""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchLCMScheduler,
    HiDreamImageTransformer2DModel,
    UniPCMultistepScheduler,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from . import settings, vocabulary

MODEL_NAME = "HiDream-I1-Demo"
LLAMA_NAME = "Llama-Demo"

_MODEL_INDEX = {
    "_class_name": "HiDreamImagePipeline",
    "_diffusers_version": "0.42.1",
    "scheduler": ["diffusers", "UniPCMultistepScheduler"],
    "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "text_encoder_3": ["transformers", "T5EncoderModel"],
    "text_encoder_4": ["transformers", "LlamaForCausalLM"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
    "tokenizer_3": ["transformers", "T5Tokenizer"],
    "tokenizer_4": ["transformers", "PreTrainedTokenizerFast"],
    "transformer": ["diffusers", "HiDreamImageTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


@dataclass(slots=True)
class Components:
    """Everything a prompt passes through on its way to a picture."""

    clip: CLIPTextModelWithProjection
    clip_2: CLIPTextModelWithProjection
    t5: T5EncoderModel
    llama: LlamaForCausalLM
    clip_tokenizer: CLIPTokenizer
    clip_tokenizer_2: CLIPTokenizer
    t5_tokenizer: T5Tokenizer
    llama_tokenizer: PreTrainedTokenizerFast
    transformer: HiDreamImageTransformer2DModel
    vae: AutoencoderKL


def fresh_components(seed: int) -> Components:
    """Build every part with random weights and learned vocabularies."""
    torch.manual_seed(seed)
    captions = vocabulary.sample_captions(seed)
    words = vocabulary.t5_tokenizer(captions)
    pieces = vocabulary.split_words(captions, words)
    clips = [vocabulary.clip_tokenizer(pieces, seed + n) for n in (1, 2)]
    llama_tokenizer = vocabulary.llama_tokenizer(pieces)
    return Components(
        clip=_clip(clips[0]),
        clip_2=_clip(clips[1]),
        t5=T5EncoderModel(T5Config(**settings.T5)),
        llama=_llama(llama_tokenizer),
        clip_tokenizer=clips[0],
        clip_tokenizer_2=clips[1],
        t5_tokenizer=words,
        llama_tokenizer=llama_tokenizer,
        transformer=HiDreamImageTransformer2DModel(**settings.TRANSFORMER),
        vae=AutoencoderKL(**settings.AUTOENCODER),
    )


def _clip(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        **settings.CLIP,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModelWithProjection(config)


def _llama(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        **settings.LLAMA,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def export(parts: Components, destination: Path) -> None:
    """Write both model directories under `destination`, replacing what is there at once."""
    beside = destination / ".writing"
    shutil.rmtree(beside, ignore_errors=True)
    _write(parts, beside)
    for name in (MODEL_NAME, LLAMA_NAME):
        old = destination / f".old-{name}"
        shutil.rmtree(old, ignore_errors=True)
        if (destination / name).exists():
            (destination / name).rename(old)
        (beside / name).rename(destination / name)
        shutil.rmtree(old, ignore_errors=True)
    beside.rmdir()


def _write(parts: Components, root: Path) -> None:
    model, llama = root / MODEL_NAME, root / LLAMA_NAME
    model.mkdir(parents=True)
    (model / "model_index.json").write_text(json.dumps(_MODEL_INDEX, indent=2) + "\n")
    UniPCMultistepScheduler(**settings.SCHEDULER).save_pretrained(model / "scheduler")
    FlowMatchLCMScheduler(**settings.FAST_SCHEDULER).save_pretrained(model / "scheduler_fast")
    _save_half(parts.clip, model / "text_encoder")
    _save_half(parts.clip_2, model / "text_encoder_2")
    _save_half(parts.t5, model / "text_encoder_3")
    _save_half(parts.transformer, model / "transformer")
    _save_half(parts.vae, model / "vae")
    parts.clip_tokenizer.save_pretrained(model / "tokenizer")
    parts.clip_tokenizer_2.save_pretrained(model / "tokenizer_2")
    parts.t5_tokenizer.save_pretrained(model / "tokenizer_3")
    _save_half(parts.llama, llama)
    parts.llama_tokenizer.save_pretrained(llama)


def _save_half(part: torch.nn.Module, folder: Path) -> None:
    # Half precision on disk halves the repository's weight; it is computed in single precision.
    half = deepcopy(part).half()
    half.save_pretrained(folder)
    # Where a part was loaded from before is nobody's business.
    config = json.loads((folder / "config.json").read_text())
    config.pop("_name_or_path", None)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def load(root: Path) -> Components:
    """Load what `export` wrote, in single precision."""
    model, llama = root / MODEL_NAME, root / LLAMA_NAME
    single = {"dtype": torch.float32}

    def diffused(kind, name):
        return kind.from_pretrained(model / name, torch_dtype=torch.float32).eval()

    return Components(
        clip=CLIPTextModelWithProjection.from_pretrained(model / "text_encoder", **single).eval(),
        clip_2=CLIPTextModelWithProjection.from_pretrained(
            model / "text_encoder_2", **single
        ).eval(),
        t5=T5EncoderModel.from_pretrained(model / "text_encoder_3", **single).eval(),
        llama=LlamaForCausalLM.from_pretrained(llama, **single).eval(),
        clip_tokenizer=CLIPTokenizer.from_pretrained(model / "tokenizer"),
        clip_tokenizer_2=CLIPTokenizer.from_pretrained(model / "tokenizer_2"),
        t5_tokenizer=T5Tokenizer.from_pretrained(model / "tokenizer_3"),
        llama_tokenizer=PreTrainedTokenizerFast.from_pretrained(llama),
        transformer=diffused(HiDreamImageTransformer2DModel, "transformer"),
        vae=diffused(AutoencoderKL, "vae"),
    )
