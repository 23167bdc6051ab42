"""What a model directory is: variant, sizes it can paint, memory each component needs."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


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


#: Sizes the published model was trained on (width, height), beside 1024x1024.
TRAINED_SIZES = (
    (768, 1360), (1360, 768), (880, 1168), (1168, 880), (1248, 832), (832, 1248)
)  # fmt: skip

#: Sizes that the API documents.
DOCUMENTED_SIZES = ((1024, 1024), (1024, 768), (768, 1024), (512, 512))


@dataclass(frozen=True, slots=True)
class Component:
    """One loadable part and its number of parameters."""

    name: str
    class_name: str
    path: Path
    parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """A model directory that can be served."""

    path: Path
    #: Where the Llama and its tokenizer come from; None if the directory carries them itself.
    extra_path: Path | None
    variant: Variant
    sampler: str
    is_demo: bool
    #: Width and height are multiples of this many pixels.
    size_multiple: int
    #: Most image tokens of one picture; a token covers size_multiple² pixels.
    max_image_tokens: int
    components: tuple[Component, ...]

    @property
    def name(self) -> str:
        return self.path.name

    def image_tokens(self, width: int, height: int) -> int:
        return (width // self.size_multiple) * (height // self.size_multiple)

    def size_problem(self, width: int, height: int) -> str | None:
        """Say what sizes are allowed if this one is not, else None."""
        multiple = self.size_multiple
        fits = width % multiple == 0 and height % multiple == 0 and width > 0 and height > 0
        if fits and self.image_tokens(width, height) <= self.max_image_tokens:
            return None
        documented = ", ".join(f"{w}x{h}" for w, h in DOCUMENTED_SIZES)
        largest = self.max_image_tokens * multiple**2
        return (
            f"{documented}, or any WIDTHxHEIGHT in multiples of {multiple}"
            f" with at most {largest} pixels"
        )
