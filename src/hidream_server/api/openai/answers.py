"""What OpenAI's clients get: finished tasks as images, previews as partial ones."""

import base64
from typing import Any

from fastapi.concurrency import run_in_threadpool

from hidream_server.api.images import picture_of
from hidream_server.api.links import Links
from hidream_server.api.openai.schemas import ImageRequest, Quality
from hidream_server.api.services import Services
from hidream_server.errors import PreviewNotFoundError
from hidream_server.store.pictures import preview_key
from hidream_server.task import Task


class Answers:
    """Answers one request with what came of its task."""

    def __init__(self, services: Services, links: Links, request: ImageRequest) -> None:
        self._services = services
        self._links = links
        self._request = request

    async def images(self, task: Task) -> dict[str, Any]:
        """Return all images of a completed task."""
        data = [await self._image(task, name) for name in task.pictures]
        return {"created": _seconds(task), "data": data, "usage": self._usage(task)} | self._about(
            task
        )

    async def completed(self, task: Task, index: int) -> dict[str, Any]:
        """Return one finished image as an event."""
        image = await self._base64(task, task.pictures[index])
        return self._event("completed", task, image) | {"usage": self._usage(task)}

    async def partial(self, task: Task, image_index: int, count: int) -> dict[str, Any]:
        """Return how an unfinished image looks, the `count`-th that is sent, as an event.

        Raises PreviewNotFoundError if it is gone already.
        """
        services, request = self._services, self._request
        key = preview_key(task.id, task.attempt, image_index)
        data = await run_in_threadpool(services.results.previews.get, key)
        if data is None:
            raise PreviewNotFoundError
        data = await services.converting.convert_bytes(data, request.format, request.compression)
        image = base64.b64encode(data).decode()
        return self._event("partial_image", task, image) | {"partial_image_index": count}

    def _event(self, kind: str, task: Task, image: str) -> dict[str, Any]:
        return {
            "type": f"image_generation.{kind}",
            "b64_json": image,
            "created_at": _seconds(task),
            **self._about(task),
        }

    async def _image(self, task: Task, name: str) -> dict[str, str]:
        request = self._request
        if request.response_format == "url":
            return {"url": self._links.picture(name, request.format, request.compression)}
        return {"b64_json": await self._base64(task, name)}

    async def _base64(self, task: Task, name: str) -> str:
        request = self._request
        picture = await run_in_threadpool(picture_of, self._services, task, name)
        data = await self._services.converting.convert(picture, request.format, request.compression)
        return base64.b64encode(data).decode()

    def _about(self, task: Task) -> dict[str, str]:
        low = self._request.quality is Quality.LOW
        return {
            "size": f"{task.params.width}x{task.params.height}",
            "quality": "low" if low else "high",
            "background": "opaque",
            "output_format": str(self._request.format),
        }

    def _usage(self, task: Task) -> dict[str, Any]:
        """Return image tokens as the model counts them; nobody here counts those of texts."""
        params = task.params
        tokens = params.num_images * self._services.model.image_tokens(params.width, params.height)
        return {
            "input_tokens": 0,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
            "output_tokens": tokens,
            "total_tokens": tokens,
        }


def _seconds(task: Task) -> int:
    return int(task.completed_at or task.created_at)
