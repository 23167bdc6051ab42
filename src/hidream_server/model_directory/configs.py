"""What this project reads of each component's config file; everything else in it is ignored."""

from typing import Annotated

from msgspec import Meta, Struct, field

Count = Annotated[int, Meta(gt=0)]


class TransformerConfig(Struct, frozen=True, kw_only=True):
    patch_size: Count
    in_channels: Count
    out_channels: Count | None = None
    num_layers: Annotated[int, Meta(ge=0)]
    num_single_layers: Annotated[int, Meta(ge=0)]
    attention_head_dim: Count
    num_attention_heads: Count
    num_routed_experts: Count
    num_activated_experts: Count
    #: Widths of the T5's and the Llama's embeddings.
    caption_channels: tuple[Count, Count]
    text_emb_dim: Count
    #: Height and width of the largest latents.
    max_resolution: tuple[Count, Count]
    #: For each block the layer of the Llama that it sees.
    llama_layers: list[Annotated[int, Meta(ge=0)]]


class VaeConfig(Struct, frozen=True, kw_only=True):
    latent_channels: Count
    block_out_channels: Annotated[list[Count], Meta(min_length=1)]


class ClipConfig(Struct, frozen=True, kw_only=True):
    vocab_size: Count
    hidden_size: Count
    projection_dim: Count


class T5Config(Struct, frozen=True, kw_only=True):
    vocab_size: Count
    d_model: Count


class LlamaConfig(Struct, frozen=True, kw_only=True):
    vocab_size: Count
    hidden_size: Count
    num_hidden_layers: Count


class SchedulerConfig(Struct, frozen=True, kw_only=True):
    class_name: str = field(name="_class_name")
    #: Of the flow matching samplers; tells Dev from Fast.
    shift: float = 3.0


Config = TransformerConfig | VaeConfig | ClipConfig | T5Config | LlamaConfig | SchedulerConfig
