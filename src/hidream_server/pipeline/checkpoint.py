"""What the images of a task need to go on from where they are, as bytes.

The copy is quick and is made between two steps; the bytes can be made beside the loop.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hidream_server.pipeline.denoise import ImageRun
from hidream_server.pipeline.step_cache import StepCache

#: [1, C, H, W], and nothing else that is remembered of an image has as many.
_LATENT_AXES = 4

#: Of each image what `snapshot` returns.
Snapshot = list[dict[str, Any]]


def snapshot(images: Sequence[ImageRun]) -> Snapshot:
    """Copy the state of a task's images."""
    return [
        {
            "steps_done": image.steps_done,
            "latents": image.latents.clone(),
            "generator": image.generator.get_state(),
            "sampler": image.sampler.state(),
            "fp8_steps": image.fp8_steps,
            "step_cache": image.step_cache and image.step_cache.state(),
        }
        for image in images
    ]


def pack(images: Snapshot, model: str) -> bytes:
    """Return the bytes of a snapshot, with the name of the model that it belongs to."""
    file = io.BytesIO()
    torch.save({"model": model, "images": _placed(images, torch.device("cpu"))}, file)
    return file.getvalue()


def unpack(data: bytes, model: str) -> Snapshot:
    """Return the snapshot in `data`; raise ValueError for one of another model or of none."""
    try:
        found = torch.load(io.BytesIO(data), weights_only=True)
        owner, images = found["model"], found["images"]
    except Exception as error:
        raise ValueError(f"it cannot be read ({type(error).__name__})") from error
    if owner != model:
        raise ValueError(f"it belongs to {owner}")
    return list(images)


def restore(images: Sequence[ImageRun], states: Snapshot) -> None:
    """Put images that were just begun where others like them were; raise ValueError otherwise."""
    if len(images) != len(states):
        raise ValueError(f"it has {len(states)} images")
    for image, saved in zip(images, states, strict=True):
        state = _placed(saved, image.latents.device)
        image.latents = state["latents"]
        image.generator.set_state(state["generator"])
        image.sampler.restore(state["sampler"])
        image.steps_done = state["steps_done"]
        image.fp8_steps = state.get("fp8_steps", 0)
        _restore_step_cache(image, state.get("step_cache"))


def _placed(state: Any, device: torch.device) -> Any:
    """Return a state whose tensors as large as latents are on this device; others stay."""
    match state:
        case Tensor():
            return state.to(device) if state.ndim == _LATENT_AXES else state
        case list():
            return [_placed(part, device) for part in state]
        case dict():
            return {name: _placed(part, device) for name, part in state.items()}
    return state


def _restore_step_cache(image: ImageRun, state: Mapping[str, Any] | None) -> None:
    """Go on with what steps may be taken from; and know how many were, where that is over."""
    if state is None:
        return
    if image.step_cache is None:
        image.step_cache = StepCache(0.0, len(image.sampler.timesteps))
    image.step_cache.restore(state)
