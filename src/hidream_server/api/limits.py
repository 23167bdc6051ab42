"""What values a request may have: one table, used to check requests and to document them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hidream_server.api.schemas import GenerationRequest
from hidream_server.errors import FieldProblem, InvalidRequestError, WebhookAddressError
from hidream_server.keys import ApiKey, KeyLimits
from hidream_server.model_directory.description import ModelTraits
from hidream_server.queue.bounds import Bounds
from hidream_server.queue.task_queue import draw_seed
from hidream_server.settings import Settings
from hidream_server.task import TaskParams
from hidream_server.webhooks.addresses import MAX_URL_CHARS, AddressPolicy

#: Largest seed: a whole number that every JSON client keeps exact.
MAX_SEED = 2**53 - 1
#: The first version's batch_size decides nothing here; this is only a sanity bound.
MAX_BATCH_SIZE = 64
#: A year, in seconds: beyond it a deadline says nothing.
MAX_DEADLINE_S = 365 * 86400

_RESOLUTION = re.compile(r"(\d{1,5})x(\d{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers a field may have, both ends included."""

    field: str
    low: float
    high: float

    @property
    def allowed(self) -> str:
        return f"{self.low:g} to {self.high:.16g}"

    def holds(self, value: float | None) -> bool:
        return value is None or self.low <= value <= self.high


class Limits:
    """The limits of one server: its settings and its model."""

    def __init__(self, settings: Settings, model: ModelTraits) -> None:
        self._settings = settings
        self._model = model
        self._addresses = AddressPolicy(settings.webhook_allow_private)
        rate = settings.max_images_per_minute
        ranges = (
            Range("num_inference_steps", 1, settings.max_inference_steps),
            Range("guidance_scale", 0, settings.max_guidance_scale),
            Range("num_images_per_prompt", 1, _least(settings.max_images_per_prompt, rate)),
            Range("seed", 0, MAX_SEED),
            Range("batch_size", 1, MAX_BATCH_SIZE),
            Range("deadline_s", 0, MAX_DEADLINE_S),
            Range("num_previews", 0, settings.max_previews),
        )
        #: By the name of the field.
        self.ranges = {limit.field: limit for limit in ranges}

    def accept(
        self,
        requests: Sequence[GenerationRequest],
        batch: bool = False,
        key: ApiKey | None = None,
        most_requests: int | None = None,
    ) -> list[TaskParams]:
        """Return complete parameters; raise InvalidRequestError with every problem there is.

        Of a batch there may be `most_requests`, or as many as the settings say.
        """
        limits = key.limits if key is not None else KeyLimits()
        bounds = Bounds.of(self._settings).of_key(limits)
        most = self._settings.max_batch_requests if most_requests is None else most_requests
        problems = [] if not batch else list(_batch_problems(requests, bounds, most))
        for index, request in enumerate(requests):
            prefix = f"requests.{index}." if batch else ""
            problems += [
                FieldProblem(prefix + p.field, p.value, p.allowed)
                for p in (
                    *self._problems(request),
                    *self._seed_problems(request),
                    *_key_problems(request, limits),
                )
            ]
        if problems:
            raise InvalidRequestError(problems)
        return [self._params(request) for request in requests]

    def require_webhook(self, url: str | None) -> None:
        """Raise InvalidRequestError for what no message may be sent to."""
        if problems := list(self._webhook_problems(url)):
            raise InvalidRequestError(problems)

    def document(self, schema: dict[str, Any]) -> None:
        """Write the limits into the OpenAPI schema of GenerationRequest, in place."""
        properties = schema["properties"]
        for limit in self.ranges.values():
            variants = properties[limit.field].get("anyOf", [properties[limit.field]])
            variants[0] |= {"minimum": limit.low, "maximum": limit.high}
            properties[limit.field]["description"] += f" {limit.allowed}."
        for field in ("prompt", "negative_prompt"):
            properties[field]["maxLength"] = self._settings.max_prompt_chars
        properties["webhook_url"]["anyOf"][0]["maxLength"] = MAX_URL_CHARS
        sizes = self._model.allowed_sizes
        properties["resolution"]["description"] += f" One of {sizes}."

    def _problems(self, request: GenerationRequest) -> Iterator[FieldProblem]:
        most = self._settings.max_prompt_chars
        if not request.prompt.strip():
            yield FieldProblem("prompt", request.prompt, "text that is not blank")
        for field in ("prompt", "negative_prompt"):
            text = getattr(request, field)
            if len(text) > most:
                yield FieldProblem(field, text, f"at most {most} characters, this has {len(text)}")
        if not self._model.paints(*_size(request.resolution)):
            yield FieldProblem("resolution", request.resolution, self._model.allowed_sizes)
        for limit in self.ranges.values():
            value = getattr(request, limit.field)
            if not limit.holds(value):
                yield FieldProblem(limit.field, value, limit.allowed)
        yield from self._webhook_problems(request.webhook_url)

    def _webhook_problems(self, url: str | None) -> Iterator[FieldProblem]:
        if url is not None:
            try:
                self._addresses.check_url(url)
            except WebhookAddressError as error:
                yield FieldProblem("webhook_url", url, error.allowed)

    def _seed_problems(self, request: GenerationRequest) -> Iterator[FieldProblem]:
        """The last image's seed must be one that may be asked for, too."""
        images, seed = request.num_images_per_prompt, request.seed
        in_range = self.ranges["seed"].holds(seed)
        in_range &= self.ranges["num_images_per_prompt"].holds(images)
        if in_range and seed is not None and seed + images - 1 > MAX_SEED:
            allowed = f"0 to {MAX_SEED - images + 1} for {images} images"
            yield FieldProblem("seed", seed, allowed)

    def _params(self, request: GenerationRequest) -> TaskParams:
        width, height = _size(request.resolution)
        variant = self._model.variant
        steps, guidance = request.num_inference_steps, request.guidance_scale
        return TaskParams(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            width=width,
            height=height,
            num_inference_steps=variant.default_steps if steps is None else steps,
            guidance_scale=variant.default_guidance if guidance is None else guidance,
            num_images=request.num_images_per_prompt,
            seed=draw_seed() if request.seed is None else request.seed,
            infer_type=request.infer_type,
            priority=request.priority,
            deadline_s=request.deadline_s,
            num_previews=request.num_previews,
        )


def _batch_problems(
    requests: Sequence[GenerationRequest], bounds: Bounds, most_requests: int
) -> Iterator[FieldProblem]:
    """Refuse what no empty queue could take; all that are accepted are accepted at once."""
    most = _least(most_requests, bounds.queued, bounds.client_queued)
    if not 1 <= len(requests) <= most:
        allowed = f"1 to {most} requests"
        if most < most_requests:
            allowed += ": a queue may hold no more of yours"
        yield FieldProblem("requests", f"{len(requests)} requests", allowed)
    images = sum(request.num_images_per_prompt for request in requests)
    rate = bounds.client_images
    if rate and images > rate:
        yield FieldProblem("requests", f"{images} images", f"at most {rate} images in all")
    ids = [request.task_id for request in requests if request.task_id is not None]
    if len(set(ids)) < len(ids):
        yield FieldProblem("requests", ids, "task_ids that are all different")


def _key_problems(request: GenerationRequest, limits: KeyLimits) -> Iterator[FieldProblem]:
    """Refuse what the bearer of a key may never have."""
    if request.priority.head_start_s > limits.priority.head_start_s:
        yield FieldProblem("priority", request.priority, f"at most {limits.priority} with this key")
    images, rate = request.num_images_per_prompt, limits.max_images_per_minute
    if rate and images > rate:
        yield FieldProblem("num_images_per_prompt", images, f"at most {rate} with this key")


def _least(most: int, *bounds: int) -> int:
    """Return the lowest of these, of which those that are 0 are none."""
    return min((most, *(bound for bound in bounds if bound)))


def _size(resolution: str) -> tuple[int, int]:
    """Return width and height, (0, 0) for what cannot be read as a size."""
    match = _RESOLUTION.fullmatch(resolution)
    return (int(match[1]), int(match[2])) if match else (0, 0)
