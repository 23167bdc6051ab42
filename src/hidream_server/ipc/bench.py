"""What the layout benchmark is told and what it answers."""

from msgspec import Struct


class LayoutBench(Struct, frozen=True, kw_only=True):
    """Time so many guided steps at a size under each of these layouts."""

    model_path: str
    extra_model_path: str | None
    device_type: str
    layouts: list[str]
    width: int
    height: int
    steps: int


class LayoutTiming(Struct, frozen=True, kw_only=True):
    """The median step and what rank 0 holds of the transformer and sends in a step."""

    layout: str
    step_s: float
    weight_bytes: int
    sent_bytes: int
