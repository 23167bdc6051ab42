"""The parts of a HiDream-I1 checkpoint: the classes, config, files and weights each must have."""

from dataclasses import dataclass

from hidream_server.model_directory.configs import (
    ClipConfig,
    Config,
    LlamaConfig,
    SchedulerConfig,
    T5Config,
    TransformerConfig,
    VaeConfig,
)


@dataclass(frozen=True, slots=True)
class ComponentKind:
    """What one folder of the checkpoint must be."""

    name: str
    classes: tuple[str, ...]
    config: type[Config]
    #: Stem of the weight file, None for a folder without weights.
    weights: str | None = None
    #: A tensor that must be there, and the config values that make up its shape.
    landmark: tuple[str, tuple[str, ...]] | None = None

    @property
    def config_file(self) -> str:
        return "config.json" if self.weights else "scheduler_config.json"


_CLIP = ("CLIPTextModelWithProjection",)
_CLIP_LANDMARK = ("text_model.embeddings.token_embedding.weight", ("vocab_size", "hidden_size"))

TRANSFORMER = ComponentKind(
    "transformer",
    ("HiDreamImageTransformer2DModel",),
    TransformerConfig,
    "diffusion_pytorch_model",
)
VAE = ComponentKind("vae", ("AutoencoderKL",), VaeConfig, "diffusion_pytorch_model")
CLIP_L = ComponentKind("text_encoder", _CLIP, ClipConfig, "model", _CLIP_LANDMARK)
CLIP_G = ComponentKind("text_encoder_2", _CLIP, ClipConfig, "model", _CLIP_LANDMARK)
T5 = ComponentKind(
    "text_encoder_3",
    ("T5EncoderModel",),
    T5Config,
    "model",
    ("shared.weight", ("vocab_size", "d_model")),
)
LLAMA = ComponentKind(
    "text_encoder_4",
    ("LlamaForCausalLM",),
    LlamaConfig,
    "model",
    ("model.embed_tokens.weight", ("vocab_size", "hidden_size")),
)
SCHEDULER = ComponentKind(
    "scheduler",
    ("UniPCMultistepScheduler", "FlowMatchLCMScheduler", "FlowMatchEulerDiscreteScheduler"),
    SchedulerConfig,
)

#: In the order in which they are loaded and shown; the Llama may live in a directory of its own.
WEIGHTED = (TRANSFORMER, VAE, CLIP_L, CLIP_G, T5, LLAMA)

#: For each tokenizer folder the sets of files of which one must be complete.
TOKENIZER_FILES: dict[str, tuple[tuple[str, ...], ...]] = {
    "tokenizer": (("tokenizer.json",), ("vocab.json", "merges.txt")),
    "tokenizer_2": (("tokenizer.json",), ("vocab.json", "merges.txt")),
    "tokenizer_3": (("tokenizer.json",), ("spiece.model",)),
    "tokenizer_4": (("tokenizer.json",),),
}
