"""Bodies of OpenAI's image routes; what they ask for, in this server's own words."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hidream_server.api.formats import MAX_COMPRESSION, Format
from hidream_server.api.schemas import GenerationRequest, Text
from hidream_server.errors import FieldProblem, InvalidRequestError
from hidream_server.model_directory.description import ModelTraits
from hidream_server.task import InferType, Priority

#: What is painted when no size is asked for, or any.
_DEFAULT_SIZE = "1024x1024"
#: Low quality takes this part of the default steps.
_LOW_QUALITY = 0.5
_MOST_PARTIAL_IMAGES = 3


class Quality(StrEnum):
    """How much care is taken; low takes half of the default steps, all others take all."""

    AUTO = "auto"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
    MAX = "max"
    STANDARD = "standard"
    HD = "hd"


class ImageRequest(BaseModel):
    """What OpenAI's clients send. Fields that mean nothing here are accepted and ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    prompt: Text
    model: str | None = Field(None, description="The served model, or one of its aliases.")
    n: int | None = Field(None, description="Images; image j uses seed + j.")
    size: str | None = Field(None, description="WIDTHxHEIGHT, delivered exactly; or auto.")
    quality: Quality | None = Field(
        None, strict=False, description="low takes half of the default steps."
    )
    response_format: Literal["b64_json", "url"] | None = None
    output_format: Format | None = Field(None, strict=False)
    output_compression: int | None = Field(None, ge=0, le=MAX_COMPRESSION)
    background: Literal["auto", "opaque"] | None = None
    stream: bool | None = None
    partial_images: int | None = Field(
        None,
        ge=0,
        le=_MOST_PARTIAL_IMAGES,
        description="Previews of each image to stream; fewer come where fewer can be had.",
    )
    # Not OpenAI's, sent by extra_body.
    negative_prompt: Text | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    priority: Priority | None = Field(None, strict=False)
    deadline_s: float | None = None
    infer_type: InferType | None = Field(None, strict=False)

    @property
    def format(self) -> Format:
        return self.output_format or Format.PNG

    @property
    def compression(self) -> int | None:
        """How a JPEG or WebP is to be compressed; OpenAI's default is said, PNG has none."""
        full = self.format is Format.PNG and self.output_compression == MAX_COMPRESSION
        return None if full else self.output_compression

    def require_possible(self) -> None:
        """Raise InvalidRequestError for fields that contradict each other."""
        if self.format is Format.PNG and self.compression is not None:
            allowed = f"{MAX_COMPRESSION}, or output_format jpeg or webp"
            problem = FieldProblem("output_compression", self.output_compression, allowed)
            raise InvalidRequestError([problem])

    def task(self, model: ModelTraits, most_previews: int) -> GenerationRequest:
        """Return the same as a request of this server's own."""
        steps = self.num_inference_steps
        if steps is None and self.quality is Quality.LOW:
            steps = max(1, round(model.variant.default_steps * _LOW_QUALITY))
        previews = self.partial_images or 0 if self.stream else 0
        return GenerationRequest(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt or "",
            resolution=_DEFAULT_SIZE if self.size in (None, "auto") else self.size,
            num_inference_steps=steps,
            guidance_scale=self.guidance_scale,
            num_images_per_prompt=1 if self.n is None else self.n,
            seed=self.seed,
            priority=self.priority or Priority.NORMAL,
            deadline_s=self.deadline_s,
            infer_type=self.infer_type or InferType.ACCURACY,
            num_previews=min(previews, most_previews),
        )
