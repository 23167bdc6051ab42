"""Names and shapes of HiDreamImageTransformer2DModel's parameters, from its config alone.

The server side uses it to check a directory in milliseconds; a test holds it against the class.
"""

from collections.abc import Iterator

from hidream_server.model_directory.configs import TransformerConfig

Shape = tuple[int, ...]

_TIMESTEP_FREQUENCIES = 256
_FFN_MULTIPLE = 256


def expected_weights(config: TransformerConfig) -> dict[str, Shape]:
    """Return name → shape of every parameter that a transformer of this config has."""
    d = config.num_attention_heads * config.attention_head_dim
    patch = config.patch_size**2
    t5_width, llama_width = config.caption_channels
    blocks = config.num_layers + config.num_single_layers
    weights = dict(
        [
            *_linear("t_embedder.timestep_embedder.linear_1", d, _TIMESTEP_FREQUENCIES),
            *_linear("t_embedder.timestep_embedder.linear_2", d, d),
            *_linear("p_embedder.pooled_embedder.linear_1", d, config.text_emb_dim),
            *_linear("p_embedder.pooled_embedder.linear_2", d, d),
            *_linear("x_embedder.proj", d, config.in_channels * patch),
            *_linear("final_layer.adaLN_modulation.1", 2 * d, d),
            *_linear("final_layer.linear", patch * (config.out_channels or config.in_channels), d),
        ]
    )
    for index in range(config.num_layers):
        weights |= _block(f"double_stream_blocks.{index}.block", d, config, text_stream=True)
    for index in range(config.num_single_layers):
        weights |= _block(f"single_stream_blocks.{index}.block", d, config, text_stream=False)
    for index in range(blocks + 1):
        width = t5_width if index == blocks else llama_width
        weights[f"caption_projection.{index}.linear.weight"] = (d, width)
    return weights


def _block(prefix: str, d: int, config: TransformerConfig, text_stream: bool) -> dict[str, Shape]:
    weights = dict(_linear(f"{prefix}.adaLN_modulation.1", (12 if text_stream else 6) * d, d))
    for stream in ("", "_t") if text_stream else ("",):
        for projection in ("to_q", "to_k", "to_v", "to_out"):
            weights |= dict(_linear(f"{prefix}.attn1.{projection}{stream}", d, d))
        for norm in ("q_rms_norm", "k_rms_norm"):
            weights[f"{prefix}.attn1.{norm}{stream}.weight"] = (d,)
    weights[f"{prefix}.ff_i.gate.weight"] = (config.num_routed_experts, d)
    for expert in range(config.num_routed_experts):
        weights |= dict(_swiglu(f"{prefix}.ff_i.experts.{expert}", d, 4 * d))
    weights |= dict(_swiglu(f"{prefix}.ff_i.shared_experts", d, 2 * d))
    if text_stream:
        weights |= dict(_swiglu(f"{prefix}.ff_t", d, 4 * d))
    return weights


def _linear(name: str, rows: int, columns: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (rows, columns)
    yield f"{name}.bias", (rows,)


def _swiglu(prefix: str, d: int, hidden: int) -> Iterator[tuple[str, Shape]]:
    width = feed_forward_width(hidden)
    yield f"{prefix}.w1.weight", (width, d)
    yield f"{prefix}.w2.weight", (d, width)
    yield f"{prefix}.w3.weight", (width, d)


def feed_forward_width(hidden: int) -> int:
    """Return the inner width of a SwiGLU that is to be as large as a plain one of `hidden`."""
    return -(-int(2 * hidden / 3) // _FFN_MULTIPLE) * _FFN_MULTIPLE
