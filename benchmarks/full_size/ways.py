"""The ways to take denoising steps that are compared, all with the same weights and inputs."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from diffusers import HiDreamImagePipeline, HiDreamImageTransformer2DModel
from torch import Tensor, nn

from benchmarks.full_size.inputs import Inputs
from benchmarks.full_size.sizes import Size
from benchmarks.full_size.timing import Stopwatch
from benchmarks.full_size.weights import Weights, empty_transformer, give
from hidream_server.model.captions import take_captions
from hidream_server.model.loading import LoadedModel
from hidream_server.model.mixture import MIXTURES
from hidream_server.model.positions import remember_positions
from hidream_server.parallel.network import Network
from hidream_server.parallel.place import alone
from hidream_server.parallel.ranks import Alone
from hidream_server.parallel.sharding import shard
from hidream_server.parallel.spreading import Spread
from hidream_server.pipeline.conditioning import Conditioning
from hidream_server.pipeline.denoise import ImageRun
from hidream_server.pipeline.sampling import Sampler
from hidream_server.pipeline.sampling_device import sampling_device
from hidream_server.pipeline.step_cache import StepCache
from hidream_server.worker.device import RankDevice
from hidream_server.worker.model_runner import ModelRunner

#: Prompts that are remembered, in bytes: as much as the server does by itself.
CACHE_BYTES = 2**29


class Way(Protocol):
    """A way to denoise."""

    def forward(self, inputs: Inputs) -> Tensor:
        """Return what the network says of the noise half way, [R, C, H, W] in fp32 on the CPU."""
        ...

    def denoise(self, inputs: Inputs, steps: int, watch: Stopwatch) -> Tensor:
        """Take all steps, with a mark after each; return the latents in fp32 on the CPU."""
        ...

    def call(self, inputs: Inputs) -> Callable[[], object]:
        """Return one call of the network; what it returns is left on the device."""
        ...


class Stock:
    """The denoising loop of diffusers' own pipeline."""

    def __init__(
        self, transformer: HiDreamImageTransformer2DModel, size: Size, sampler: Any
    ) -> None:
        self.transformer = transformer
        nothing = dict.fromkeys(("vae", *_NAMES))
        self._pipe = HiDreamImagePipeline(scheduler=sampler, transformer=transformer, **nothing)
        self._pipe.default_sample_size = size.latent_side
        self._pipe.set_progress_bar_config(disable=True)

    def forward(self, inputs: Inputs) -> Tensor:
        return self.call(inputs)().float().cpu()

    @torch.inference_mode()
    def denoise(self, inputs: Inputs, steps: int, watch: Stopwatch) -> Tensor:
        text, positive = inputs.text, inputs.text.row(inputs.rows - 1)
        negative = {}
        if inputs.rows == 2:
            negative = {
                "negative_pooled_prompt_embeds": text.pooled[:1],
                "negative_prompt_embeds_t5": text.t5[:1],
                "negative_prompt_embeds_llama3": text.llama[:, :1],
            }

        def step_done(_pipe: Any, _step: int, _timestep: Any, _values: Any) -> dict[str, Any]:
            watch.mark()
            return {}

        latents = self._pipe(
            num_inference_steps=steps,
            guidance_scale=inputs.guidance,
            latents=inputs.latents.to(text.pooled.dtype),
            pooled_prompt_embeds=positive.pooled,
            prompt_embeds_t5=positive.t5,
            prompt_embeds_llama3=positive.llama,
            **negative,
            output_type="latent",
            callback_on_step_end=step_done,
            return_dict=False,
        )[0]
        return latents.float().cpu()

    def call(self, inputs: Inputs) -> Callable[[], Any]:
        text = inputs.text
        latents = inputs.latents.to(text.pooled).expand(inputs.rows, -1, -1, -1)
        times = torch.full((inputs.rows,), 500.0, device=text.pooled.device)

        @torch.inference_mode()
        def call() -> Tensor:
            return self.transformer(
                hidden_states=latents,
                timesteps=times,
                encoder_hidden_states_t5=text.t5,
                encoder_hidden_states_llama3=text.llama,
                pooled_embeds=text.pooled,
                return_dict=False,
            )[0]

        return call


class Engine:
    """This engine's loop around a network."""

    def __init__(
        self,
        network: Network,
        model: LoadedModel,
        size: Size,
        device: RankDevice,
        tolerance: float = 0.0,
        fp8: bool = False,
    ) -> None:
        """With a tolerance steps are reused, as by `StepCache`; blocks may multiply in fp8."""
        self._tolerance, self._fp8 = tolerance, fp8
        #: Of the latest denoising.
        self.reused_steps = 0
        self.network = network
        self.size = size
        self._model = model
        names = dict.fromkeys(_NAMES, 0)
        spread = Spread(names, Alone(), device.torch_device, device.dtype)
        description = size.description()
        # As if others took part: a step for which there is no memory is not tried row by row.
        sampling = sampling_device(
            model.new_scheduler, device.torch_device, description.max_image_tokens
        )
        self.runner = ModelRunner(
            network, model, spread, description, device, CACHE_BYTES, sampling, together=True
        )

    def forward(self, inputs: Inputs) -> Tensor:
        return torch.cat(self.call(inputs)()).float().cpu()

    def denoise(self, inputs: Inputs, steps: int, watch: Stopwatch) -> Tensor:
        run = ImageRun(
            latents=inputs.latents.to(self.runner.sampling_device),
            generator=torch.Generator().manual_seed(0),
            sampler=Sampler(
                self._model.new_scheduler(), steps, self.size.description().max_image_tokens
            ),
            conditioning=self._text(inputs),
            guidance_scale=inputs.guidance,
            step_cache=StepCache(self._tolerance, steps) if self._tolerance else None,
            fp8=self._fp8,
        )
        while not run.finished:
            if run.reuses_next:
                self.runner.reuse(run)
            else:
                self.runner.step([run])
            watch.mark()
        self.reused_steps = run.reused_steps or 0
        return run.latents.cpu()

    def call(self, inputs: Inputs) -> Callable[[], Any]:
        text = self._text(inputs)
        latents, times = [inputs.latents] * inputs.rows, torch.full((inputs.rows,), 500.0)

        @torch.inference_mode()
        def call() -> list[Tensor]:
            return self.network(latents, times, text.t5, text.llama, text.pooled, self._fp8)

        return call

    @torch.inference_mode()
    def _text(self, inputs: Inputs) -> Conditioning:
        t5, llama = self.network.project(inputs.text.t5, inputs.text.llama)
        return Conditioning(pooled=inputs.text.pooled, t5=t5, llama=llama)


_NAMES = (
    *("text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4"),
    *("tokenizer", "tokenizer_2", "tokenizer_3", "tokenizer_4"),
)


class _Unprojected(nn.Module):
    """Leaves the projection of captions to each step."""

    def forward(self, t5: Tensor, llama: Tensor) -> tuple[Tensor, Tensor]:
        return t5, llama


def make_transformer(
    size: Size, weights: Weights, mixture: str | None = None
) -> HiDreamImageTransformer2DModel:
    """Return diffusers' class with these weights; with a `mixture`, the engine's feed-forward."""
    transformer = empty_transformer(size.transformer)
    if mixture is not None:
        shard(transformer, alone(), MIXTURES[mixture])
    give(transformer, weights)
    return transformer


def make_network(transformer: HiDreamImageTransformer2DModel, hoisted: bool) -> Network:
    """Return the engine's network around a transformer.

    Unless it is `hoisted`, captions are projected and rotary tables made in each step.
    """
    captions: Any = _Unprojected()
    positions: Any = SimpleNamespace(grids=[])
    if hoisted:
        captions, positions = take_captions(transformer), remember_positions(transformer)
    return Network(transformer, captions, positions, alone(), None)
