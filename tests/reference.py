"""The slow, obvious twin of the engine: a plain loop over the stock diffusers pipeline's parts.

Differs from `HiDreamImagePipeline.__call__` in the two ways that the server promises: the size
asked for is kept, and the step noise comes from the image's own generator.
"""

import inspect
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKL, HiDreamImagePipeline, HiDreamImageTransformer2DModel
from diffusers.pipelines.hidream_image.pipeline_hidream_image import calculate_shift
from numpy.typing import NDArray
from transformers import (
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5EncoderModel,
    T5Tokenizer,
)

from hidream_server.task import TaskParams


def stock_pipeline(model: Path, llama: Path) -> HiDreamImagePipeline:
    """Return diffusers' own pipeline on a model directory, the whole Llama included."""
    wide = {"dtype": torch.float32}
    scheduler = diffusers.UniPCMultistepScheduler.load_config(model / "scheduler")
    return HiDreamImagePipeline(
        scheduler=getattr(diffusers, scheduler["_class_name"]).from_config(scheduler),
        vae=AutoencoderKL.from_pretrained(model / "vae", **wide),
        text_encoder=CLIPTextModelWithProjection.from_pretrained(model / "text_encoder", **wide),
        tokenizer=CLIPTokenizer.from_pretrained(model / "tokenizer"),
        text_encoder_2=CLIPTextModelWithProjection.from_pretrained(
            model / "text_encoder_2", **wide
        ),
        tokenizer_2=CLIPTokenizer.from_pretrained(model / "tokenizer_2"),
        text_encoder_3=T5EncoderModel.from_pretrained(model / "text_encoder_3", **wide),
        tokenizer_3=T5Tokenizer.from_pretrained(model / "tokenizer_3"),
        text_encoder_4=LlamaForCausalLM.from_pretrained(llama, **wide),
        tokenizer_4=PreTrainedTokenizerFast.from_pretrained(llama),
        transformer=HiDreamImageTransformer2DModel.from_pretrained(model / "transformer", **wide),
    )


@torch.inference_mode()
def reference_picture(
    pipe: HiDreamImagePipeline, params: TaskParams, image_index: int = 0, step_cache: float = 0.0
) -> NDArray[np.uint8]:
    """Paint one image of a task; [height, width, 3] in uint8.

    With a `step_cache`, a tolerance, steps are left out as EasyCache does; see `StepCache`.
    """
    guided = params.guidance_scale > 1
    t5, no_t5, llama, no_llama, pooled, no_pooled = pipe.encode_prompt(
        prompt=params.prompt,
        negative_prompt=params.negative_prompt,
        do_classifier_free_guidance=guided,
        device=torch.device("cpu"),
    )
    if guided:
        t5, pooled = torch.cat([no_t5, t5]), torch.cat([no_pooled, pooled])
        llama = torch.cat([no_llama, llama], dim=1)
    text = {
        "encoder_hidden_states_t5": t5,
        "encoder_hidden_states_llama3": llama,
        "pooled_embeds": pooled,
    }
    latents = _denoise(pipe, params, params.seed + image_index, text, step_cache)
    config = pipe.vae.config
    pixels = pipe.vae.decode(latents / config.scaling_factor + config.shift_factor).sample
    image = pipe.image_processor.postprocess(pixels, output_type="pil")[0]
    return np.asarray(image)


def _denoise(
    pipe: HiDreamImagePipeline,
    params: TaskParams,
    seed: int,
    text: dict[str, torch.Tensor],
    step_cache: float,
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = (params.height // pipe.vae_scale_factor, params.width // pipe.vae_scale_factor)
    latents = torch.randn((1, pipe.transformer.config.in_channels, *size), generator=generator)
    scheduler = _new_scheduler(pipe, params)
    draws_noise = "generator" in inspect.signature(scheduler.step).parameters
    noise = {"generator": generator} if draws_noise else {}
    guided = len(text["pooled_embeds"]) == 2
    computed: list[tuple[torch.Tensor, torch.Tensor]] = []
    change, steps = 0.0, len(scheduler.timesteps)
    for number, t in enumerate(scheduler.timesteps):
        inside = 0.3 * steps <= number < steps - 1
        if inside and len(computed) > 1 and change < step_cache:
            output = latents + (computed[-1][1] - computed[-1][0])
        else:
            rows = torch.cat([latents] * 2) if guided else latents
            times = t.expand(len(rows))
            output = -pipe.transformer(rows, timesteps=times, **text, return_dict=False)[0]
            computed.append((latents, output))
            change = 0.0
        velocity = output
        if guided:
            negative, positive = output.chunk(2)
            velocity = negative + params.guidance_scale * (positive - negative)
        before = latents
        latents = scheduler.step(velocity, t, latents, return_dict=False, **noise)[0]
        if step_cache and len(computed) > 1:
            (x_j, v_j), (x_i, v_i) = computed[-2:]
            rate = norm(v_i[-1:] - v_j[-1:]) / norm(x_i - x_j)
            change += rate * norm(latents - before) / norm(output[-1:])
    return latents


def _new_scheduler(pipe: HiDreamImagePipeline, params: TaskParams) -> Any:
    scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    unipc = isinstance(scheduler, diffusers.UniPCMultistepScheduler)
    mu = {} if unipc else {"mu": calculate_shift(pipe.transformer.max_seq)}
    scheduler.set_timesteps(params.num_inference_steps, device="cpu", **mu)
    return scheduler


def norm(tensor: torch.Tensor) -> float:
    return float(tensor.abs().mean())
