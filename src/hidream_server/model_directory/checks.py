"""Compares what the parts of a checkpoint say of themselves and of each other.

Pure: takes configs and weight headers that have been read, yields findings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hidream_server.errors import Finding
from hidream_server.model_directory.components import LLAMA, T5, VAE, ComponentKind
from hidream_server.model_directory.configs import (
    ClipConfig,
    Config,
    LlamaConfig,
    T5Config,
    TransformerConfig,
    VaeConfig,
)
from hidream_server.model_directory.safetensors_header import TensorEntry
from hidream_server.model_directory.transformer_weights import expected_weights

_MAX_NAMES_SHOWN = 3


def check_weights(
    kind: ComponentKind, folder: Path, config: Config, weights: dict[str, TensorEntry]
) -> Iterator[Finding]:
    """Yield what a component's weights lack, or hold in another shape than its config says."""
    expected = _expected_shapes(kind, config)
    missing = sorted(expected.keys() - weights.keys())
    if missing:
        yield Finding(str(folder), f"lacks {len(missing)} tensors: {_some(missing)}")
    surplus = sorted(weights.keys() - expected.keys())
    if surplus and isinstance(config, TransformerConfig):
        yield Finding(
            str(folder), f"has {len(surplus)} tensors too many for its config: {_some(surplus)}"
        )
    for name in sorted(expected.keys() & weights.keys()):
        found = weights[name].shape
        if found != expected[name]:
            wanted = list(expected[name])
            yield Finding(str(folder), f"{name} has shape {list(found)}, its config says {wanted}")
            return


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimensions:
    """The configs whose dimensions must fit each other."""

    transformer: TransformerConfig
    vae: VaeConfig
    clips: tuple[ClipConfig, ClipConfig]
    t5: T5Config
    llama: LlamaConfig


def check_dimensions(
    dimensions: Dimensions, transformer_config: Path, llama_config: Path
) -> Iterator[Finding]:
    """Yield where the transformer expects something else than the other components offer."""
    for what, expected, offered in _pairs(dimensions):
        if expected != offered:
            yield Finding(str(transformer_config), f"expects {what} of {expected}, found {offered}")
    transformer, depth = dimensions.transformer, dimensions.llama.num_hidden_layers
    blocks = transformer.num_layers + transformer.num_single_layers
    layers = transformer.llama_layers
    if len(layers) != blocks:
        yield Finding(
            str(transformer_config), f"names {len(layers)} llama_layers for {blocks} blocks"
        )
    elif max(layers, default=0) >= depth:
        yield Finding(
            str(llama_config),
            f"has {depth} layers, too shallow for llama_layers up to {max(layers)}",
        )


def _pairs(dimensions: Dimensions) -> Iterator[tuple[str, int, int]]:
    """Yield what must be equal: its name, what the transformer expects, what is offered."""
    transformer = dimensions.transformer
    t5_width, llama_width = transformer.caption_channels
    projections = sum(clip.projection_dim for clip in dimensions.clips)
    yield f"{T5.name} d_model", t5_width, dimensions.t5.d_model
    yield f"{LLAMA.name} hidden_size", llama_width, dimensions.llama.hidden_size
    yield "CLIP projections together", transformer.text_emb_dim, projections
    yield f"{VAE.name} latent_channels", transformer.in_channels, dimensions.vae.latent_channels


def _expected_shapes(kind: ComponentKind, config: Config) -> dict[str, tuple[int, ...]]:
    if isinstance(config, TransformerConfig):
        return expected_weights(config)
    if kind.landmark is None:
        return {}
    name, keys = kind.landmark
    return {name: tuple(getattr(config, key) for key in keys)}


def _some(names: list[str]) -> str:
    more = ", …" if len(names) > _MAX_NAMES_SHOWN else ""
    return ", ".join(names[:_MAX_NAMES_SHOWN]) + more
