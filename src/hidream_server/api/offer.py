"""What a request may ask for, said beforehand: for clients that offer choices to people."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from hidream_server.api.limits import Limits
from hidream_server.api.schemas import GenerationRequest
from hidream_server.api.services import ServicesDep
from hidream_server.model_directory.description import DOCUMENTED_SIZES, ModelTraits
from hidream_server.settings import Settings

router = APIRouter(tags=["health"])


class RangeAnswer(BaseModel):
    low: float
    high: float


class DefaultsAnswer(BaseModel):
    """What is taken for fields that a request leaves out."""

    resolution: str
    num_inference_steps: int
    guidance_scale: float


class LimitsAnswer(BaseModel):
    """The limits of this server, by its settings and its model."""

    defaults: DefaultsAnswer
    ranges: dict[str, RangeAnswer] = Field(description="By field; both ends included.")
    resolutions: list[str] = Field(description="The documented ones that the model can paint.")
    size_multiple: int = Field(description="Width and height are multiples of so many pixels.")
    max_pixels: int = Field(description="Most pixels of a picture.")
    max_prompt_chars: int
    lossy: list[str] = Field(
        description="What makes tasks with infer_type Performance quicker and less exact: fp8,"
        " step_cache; empty where they are as exact as the rest."
    )

    @classmethod
    def of(cls, limits: Limits, model: ModelTraits, settings: Settings) -> "LimitsAnswer":
        return cls(
            defaults=DefaultsAnswer(
                resolution=GenerationRequest.model_fields["resolution"].default,
                num_inference_steps=model.variant.default_steps,
                guidance_scale=model.variant.default_guidance,
            ),
            ranges={
                name: RangeAnswer(low=limit.low, high=limit.high)
                for name, limit in limits.ranges.items()
            },
            resolutions=[f"{w}x{h}" for w, h in DOCUMENTED_SIZES if model.paints(w, h)],
            size_multiple=model.size_multiple,
            max_pixels=model.max_image_tokens * model.size_multiple**2,
            max_prompt_chars=settings.max_prompt_chars,
            lossy=settings.lossy,
        )


@router.get("/limits")
async def limits(services: ServicesDep) -> LimitsAnswer:
    """Say what a request may ask for, and what is taken for what it leaves out."""
    return LimitsAnswer.of(services.limits, services.model, services.settings)
