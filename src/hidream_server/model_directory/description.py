"""What a model directory is: variant, sizes it can paint, memory each component needs."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from hidream_server.model_directory.configs import TransformerConfig


class Variant(StrEnum):
    """Which of the three published HiDream-I1 checkpoints this is."""

    FULL = "Full"
    DEV = "Dev"
    FAST = "Fast"

    @property
    def default_steps(self) -> int:
        return {"Full": 50, "Dev": 28, "Fast": 16}[self]

    @property
    def default_guidance(self) -> float:
        return {"Full": 5.0, "Dev": 0.0, "Fast": 0.0}[self]


#: Tokens per prompt for every text encoder. The network sees the padding, so this is part of what
#: a seed means and never changes.
TEXT_TOKENS = 128

#: Sizes that the API documents.
DOCUMENTED_SIZES = ((1024, 1024), (1024, 768), (768, 1024), (512, 512))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTraits:
    """What those need to know of a model who only ask for pictures."""

    name: str
    variant: Variant
    sampler: str
    is_demo: bool
    #: Width and height are multiples of this many pixels.
    size_multiple: int
    #: Most image tokens of one picture; a token covers size_multiple² pixels.
    max_image_tokens: int

    @property
    def draws_noise(self) -> bool:
        """The sampler draws new noise in each step."""
        return self.sampler == "FlowMatchLCMScheduler"

    def image_tokens(self, width: int, height: int) -> int:
        return (width // self.size_multiple) * (height // self.size_multiple)

    def padded_tokens(self, width: int, height: int) -> int:
        """Return the image tokens that the network sees: it pads what is not square."""
        return self.image_tokens(width, height) if width == height else self.max_image_tokens

    @property
    def allowed_sizes(self) -> str:
        """The sizes this model can paint, in words."""
        documented = [f"{w}x{h}" for w, h in DOCUMENTED_SIZES if self.paints(w, h)]
        largest = self.max_image_tokens * self.size_multiple**2
        rule = (
            f"or any WIDTHxHEIGHT in multiples of {self.size_multiple}"
            f" with at most {largest} pixels"
        )
        return ", ".join([*documented, rule])

    def paints(self, width: int, height: int) -> bool:
        """Say whether this model can paint a size."""
        whole = width % self.size_multiple == 0 and height % self.size_multiple == 0
        tokens = self.image_tokens(width, height)
        return whole and min(width, height) > 0 and tokens <= self.max_image_tokens


@dataclass(frozen=True, slots=True)
class Component:
    """One loadable part and its number of parameters."""

    name: str
    class_name: str
    path: Path
    #: Its weight files.
    files: tuple[Path, ...]
    parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription(ModelTraits):
    """A model directory that can be served."""

    path: Path
    #: Where the Llama and its tokenizer come from; None if the directory carries them itself.
    extra_path: Path | None
    transformer: TransformerConfig
    components: tuple[Component, ...]

    @property
    def traits(self) -> ModelTraits:
        """Only what those need to know who ask for pictures."""
        return ModelTraits(**{name: getattr(self, name) for name in ModelTraits.__slots__})

    def component(self, name: str) -> Component:
        return next(component for component in self.components if component.name == name)
