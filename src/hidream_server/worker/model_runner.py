"""The one place that knows model, device and pipeline together: runs images on a loaded model."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hidream_server import __version__
from hidream_server.demo import DEMO_NOTICE
from hidream_server.model.loading import LoadedModel
from hidream_server.model_directory.description import ModelDescription
from hidream_server.parallel.network import Network
from hidream_server.parallel.spreading import Spread
from hidream_server.pipeline.autoencoder import decode, decode_in_tiles
from hidream_server.pipeline.checkpoint import pack, restore, snapshot, unpack
from hidream_server.pipeline.conditioning import Conditioning, PromptEncoder, TextEncoder
from hidream_server.pipeline.denoise import ImageRun, denoise_step, reuse_step
from hidream_server.pipeline.previews import PreviewMap, fit, preview
from hidream_server.pipeline.sampling import Sampler, first_noise
from hidream_server.pipeline.step_cache import StepCache
from hidream_server.task import InferType, TaskParams
from hidream_server.worker.device import RankDevice

logger = logging.getLogger(__name__)

_WARM_UP = TaskParams(
    prompt="",
    negative_prompt="",
    width=512,
    height=512,
    num_inference_steps=2,
    guidance_scale=5.0,
    num_images=1,
    seed=0,
)


class ModelRunner:
    """A loaded model that can begin images, take them a step further, and decode them."""

    def __init__(
        self,
        network: Network,
        model: LoadedModel,
        spread: Spread,
        description: ModelDescription,
        device: RankDevice,
        prompt_cache_bytes: int,
        sampling_device: torch.device,
        together: bool = False,
        step_cache: float = 0.0,
        fp8: bool = False,
    ) -> None:
        """`sampling_device` is where latents are from the first noise to the last step.

        `step_cache` is the tolerance by which tasks for Performance leave out forwards; with `fp8`,
        which the network must have, the others of theirs multiply in that.
        """
        #: Other ranks take part in every step.
        self.together = together
        self._network = network
        self._model = model
        self._description = description
        self._device = device
        self._step_cache, self._fp8 = step_cache, fp8
        self.sampling_device = sampling_device
        encoders = {
            name: TextEncoder(tokenizer=tokenizer, module=module, device=device.torch_device)
            for name, (tokenizer, module) in model.text_encoders.items()
        }
        self._prompts = PromptEncoder(encoders, prompt_cache_bytes, spread, network.project)

    def warm_up(self) -> float:
        """Take a step of the smallest documented picture in one, two and four rows, and decode it.

        Then so in fp8, if there is that. Whatever is compiled, or chosen, by the number of rows is
        so before the first task. Returns the seconds it took.
        """
        start = time.perf_counter()
        image = self._warm_up(_WARM_UP)
        if self._fp8:
            self._warm_up(replace(_WARM_UP, infer_type=InferType.PERFORMANCE))
        if self.decodes:
            self.decode(image)
        return time.perf_counter() - start

    def _warm_up(self, params: TaskParams) -> ImageRun:
        """Take the first step of such pictures; return one of them."""
        unguided, guided = (
            [image for _ in range(2) for image in self.begin(replace(params, guidance_scale=g))]
            for g in (0.0, 5.0)
        )
        for images in (unguided[:1], unguided, guided):
            self.step(images)
        if self._network.compiled:
            sizes = ({"width": 1024, "height": 768}, {"width": 768, "height": 1024})
            self.step([self.begin(replace(params, **size))[0] for size in sizes])
        return guided[0]

    def begin(self, params: TaskParams) -> list[ImageRun]:
        """Encode a task's prompts and draw the first noise of each of its images."""
        self._device.take()
        prompts = [params.prompt]
        if params.guided:
            prompts.insert(0, params.negative_prompt)
        conditioning = Conditioning.stack([self._prompts.encode(prompt) for prompt in prompts])
        self._device.synchronize()
        return [self._begin_image(params, seed, conditioning) for seed in params.seeds]

    def resume(self, images: list[ImageRun], checkpoint: bytes) -> None:
        """Put images that were just begun where they were; raise ValueError if that cannot be."""
        restore(images, unpack(checkpoint, self._description.name))

    def checkpoint(self, images: list[ImageRun]) -> Callable[[], bytes]:
        """Copy what the images need to go on; what is returned makes bytes of it, in any thread."""
        saved = snapshot(images)

        def make() -> bytes:
            self._device.take()
            return pack(saved, self._description.name)

        return make

    def preview(self, run: ImageRun, shares: PreviewMap) -> Callable[[], NDArray[np.uint8]]:
        """Return what makes a picture of what the last step foresaw, in any thread."""
        foreseen = run.foreseen
        assert foreseen is not None

        def make() -> NDArray[np.uint8]:
            self._device.take()
            return preview(foreseen, shares)

        return make

    def step(self, runs: Sequence[ImageRun]) -> None:
        """Take images of the same number of tokens a step further, in one forward.

        It is in fp8 for all of them or for none.
        A single image for which there is no memory is tried again row by row, unless other ranks
        are in the same forward. What the network raises leaves the images where they were; for
        SamplingError see `denoise_step`.
        """
        [fp8] = {run.fp8 for run in runs}
        alone = len(runs) == 1 and not self.together
        call = self._call_network_somehow if alone else self._call_network
        denoise_step(runs, partial(call, fp8=fp8))

    def reuse(self, run: ImageRun) -> None:
        """Take an image a step further that needs no forward for it."""
        reuse_step(run)

    def _run(self, work: Callable[[], object]) -> bool:
        """Run what may find no memory; return False if it did.

        What it held is free again then, which it is not where its error is still being handled.
        """
        try:
            work()
            return True
        except Exception as error:
            if not self.is_out_of_memory(error):
                raise
        self._device.free_cache()
        return False

    def is_out_of_memory(self, error: Exception) -> bool:
        return self._device.is_out_of_memory(error)

    def tokens(self, params: TaskParams) -> int:
        """Return how many image tokens the network sees; images of as many can share a forward."""
        return self._description.padded_tokens(params.width, params.height)

    @property
    def decodes(self) -> bool:
        """The autoencoder is here."""
        return self._model.vae is not None

    def decode(self, run: ImageRun) -> NDArray[np.uint8]:
        """Return a finished image as [height, width, 3] in uint8.

        Where there is no memory for the whole it is decoded in tiles, whose seams are blended.
        """
        vae, pixels = self._model.vae, []
        assert vae is not None
        self._device.take()
        if not self._run(lambda: pixels.append(decode(vae, run.latents))):
            logger.warning("No memory to decode a picture: it is decoded in tiles")
            pixels.append(decode_in_tiles(vae, run.latents))
        return pixels[0]

    def fit_preview_map(self) -> PreviewMap:
        """Return how latents look, roughly; the autoencoder must be here."""
        assert self._model.vae is not None
        return fit(self._model.vae)

    def memory_bytes(self) -> int:
        return self._device.memory_bytes()

    def peak_memory_bytes(self) -> int:
        return self._device.peak_memory_bytes()

    @property
    def prompt_lookups(self) -> tuple[int, int]:
        """How many prompts were looked up in the cache of embeddings, and how many were there."""
        return self._prompts.lookups, self._prompts.hits

    def weight_bytes(self) -> int:
        """Return the bytes of the network's weights on this rank."""
        return self._network.weight_bytes()

    def check_device(self) -> None:
        """Raise unless the device still computes."""
        self._device.check()

    def about(
        self,
        params: TaskParams,
        image_index: int,
        reused_steps: int | None = None,
        fp8_steps: int = 0,
    ) -> dict[str, str]:
        """Return what a picture's file says of how it was made; of reused steps if any could be."""
        about = {
            "Software": f"HiDream Server {__version__}",
            "model": self._description.name,
            "variant": self._description.variant,
            "prompt": params.prompt,
            "negative_prompt": params.negative_prompt,
            "seed": str(params.seeds[image_index]),
            "num_inference_steps": str(params.num_inference_steps),
            "guidance_scale": str(params.guidance_scale),
            "resolution": f"{params.width}x{params.height}",
        }
        if fp8_steps:
            about["precision"] = "fp8"
        if reused_steps is not None:
            about["reused_steps"] = str(reused_steps)
        return about | ({"notice": DEMO_NOTICE} if self._description.is_demo else {})

    def _begin_image(self, params: TaskParams, seed: int, conditioning: Conditioning) -> ImageRun:
        config = self._network.config
        pixels_per_latent = self._description.size_multiple // config.patch_size
        generator = torch.Generator("cpu").manual_seed(seed)
        return ImageRun(
            latents=first_noise(
                config.in_channels,
                params.height // pixels_per_latent,
                params.width // pixels_per_latent,
                generator,
            ).to(self.sampling_device),
            generator=generator,
            sampler=Sampler(
                self._model.new_scheduler(),
                params.num_inference_steps,
                self._description.max_image_tokens,
            ),
            conditioning=conditioning,
            guidance_scale=params.guidance_scale,
            step_cache=self._new_step_cache(params),
            fp8=self._fp8 and params.may_be_lossy,
        )

    def _new_step_cache(self, params: TaskParams) -> StepCache | None:
        if not self._step_cache or not params.may_be_lossy:
            return None
        return StepCache(self._step_cache, params.num_inference_steps)

    def _call_network(
        self, latents: Sequence[Tensor], timesteps: Tensor, conditioning: Conditioning, fp8: bool
    ) -> list[Tensor]:
        text = (conditioning.t5, conditioning.llama, conditioning.pooled)
        outputs = [
            output.float().to(self.sampling_device)
            for output in self._network(latents, timesteps, *text, fp8=fp8)
        ]
        # Whatever goes wrong on the device is known before an image is moved.
        self._device.synchronize()
        return outputs

    def _call_network_somehow(
        self, latents: Sequence[Tensor], timesteps: Tensor, conditioning: Conditioning, fp8: bool
    ) -> list[Tensor]:
        """Call it once, or where there is no memory for that, row by row."""
        outputs: list[Tensor] = []
        rows = (latents, timesteps, conditioning, fp8)
        if not self._run(lambda: outputs.extend(self._call_network(*rows))):
            logger.warning("No memory for a step: its rows are run one after the other")
            outputs = self._call_network_by_row(*rows)
        return outputs

    def _call_network_by_row(
        self, latents: Sequence[Tensor], timesteps: Tensor, conditioning: Conditioning, fp8: bool
    ) -> list[Tensor]:
        rows = range(conditioning.rows)
        return [
            self._call_network([latents[n]], timesteps[n : n + 1], conditioning.row(n), fp8)[0]
            for n in rows
        ]
