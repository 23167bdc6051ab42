"""Fetch pictures. Only published ones: what a task's row names, and only from the one folder."""

from datetime import UTC, datetime
from email.utils import formatdate
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response

from hidream_server.api.access import Caller, CallerDep, FollowedDep
from hidream_server.api.converting import Converting, ConvertingDep
from hidream_server.api.formats import MAX_COMPRESSION, Format
from hidream_server.api.services import Services, ServicesDep
from hidream_server.errors import (
    PictureExpiredError,
    PictureNotFoundError,
    PreviewNotFoundError,
    TaskCancelledError,
    TaskFailedError,
    TaskNotFinishedError,
)
from hidream_server.store.blobs import Blob
from hidream_server.store.pictures import claim_of_picture, preview_key
from hidream_server.task import Task, TaskState

router = APIRouter(tags=["images"])

_PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}}


_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {form.media_type: {} for form in Format}}
}

#: What the end of a picture's name asks for.
_FORMATS = {"png": Format.PNG, "jpeg": Format.JPEG, "jpg": Format.JPEG, "webp": Format.WEBP}

#: A picture never changes; and whose it is may matter, so that only its client keeps it.
_KEPT = {"Cache-Control": "private, max-age=31536000, immutable"}

Compression = Annotated[
    int | None,
    Query(
        ge=0,
        le=MAX_COMPRESSION,
        description=f"Quality of a JPEG or WebP, {MAX_COMPRESSION} if left out; none with PNG.",
    ),
]


@router.get("/download/{task_id}", response_class=Response, responses=_PICTURE)
async def download(
    followed: FollowedDep,
    services: ServicesDep,
    converting: ConvertingDep,
    image_index: int = 0,
    output_format: Format = Format.PNG,
    output_compression: Compression = None,
) -> Response:
    """Return one picture of a task as a file to keep."""
    picture = await run_in_threadpool(_of_task, services, followed.task, image_index)
    answer = await _answer(converting, picture, output_format, output_compression)
    name = f"{followed.task.id}_image_{image_index}.{output_format}"
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


@router.get("/preview/{task_id}", response_class=Response, responses=_PNG)
def preview(followed: FollowedDep, services: ServicesDep, image_index: int = 0) -> Response:
    """Return how an unfinished image looked last; for tasks submitted with num_previews."""
    task = followed.task
    _require_index(image_index, task.params.num_images)
    data = services.results.previews.get(preview_key(task.id, task.attempt, image_index))
    if data is None or not task.state.is_open:
        raise PreviewNotFoundError(
            f"Task {task.id} has no preview of image {image_index} now: it was submitted without"
            " num_previews, has not come so far, or has ended."
        )
    return Response(data, media_type="image/png")


@router.get("/images/{name}", response_class=Response, responses=_PICTURE)
async def image(
    name: str,
    caller: CallerDep,
    services: ServicesDep,
    converting: ConvertingDep,
    compression: Compression = None,
) -> Response:
    """Return a picture by its name, as `result_urls` gives it, or with .jpeg or .webp for .png."""
    stem, _, ending = name.rpartition(".")
    if ending not in _FORMATS:
        raise PictureNotFoundError("There is no such picture.")
    picture = await run_in_threadpool(_by_name, services, caller, f"{stem}.png")
    return await _answer(converting, picture, _FORMATS[ending], compression, "compression")


def _of_task(services: Services, task: Task, image_index: int) -> Blob:
    """Return one picture of a task; say why there is none."""
    require_pictures(task)
    _require_index(image_index, len(task.pictures))
    return picture_of(services, task, task.pictures[image_index])


def require_pictures(task: Task) -> None:
    """Raise what came of a task, if that is no picture."""
    if task.state is TaskState.FAILED:
        raise TaskFailedError(f"Task {task.id} failed: {task.error}")
    if task.state is TaskState.CANCELLED:
        raise TaskCancelledError(f"Task {task.id} was cancelled; it has no picture.")
    if task.state is not TaskState.COMPLETED:
        raise TaskNotFinishedError(f"Task {task.id} is {task.state}; it has no picture yet.")


def _by_name(services: Services, caller: Caller, name: str) -> Blob:
    """Return a picture, if it is the result of a task."""
    claim = claim_of_picture(name)
    task = services.queue.get(claim[0]) if claim else None
    if task is None or not caller.sees(task) or name not in task.pictures:
        raise PictureNotFoundError("There is no such picture.")
    return picture_of(services, task, name)


def _require_index(image_index: int, count: int) -> None:
    if not 0 <= image_index < count:
        raise PictureNotFoundError(f"The task has {count} picture(s), numbered from 0.")


def picture_of(services: Services, task: Task, name: str) -> Blob:
    """Return a task's picture; raise what became of it if there is none."""
    _require_not_expired(task)
    picture = services.results.pictures.open(name)
    if picture is None:
        raise PictureNotFoundError(f"The file of picture {name} is gone.")
    return picture


def require_picture(services: Services, task: Task, name: str) -> None:
    """Raise what became of a task's picture, if it is not there."""
    _require_not_expired(task)
    if not services.results.pictures.exists(name):
        raise PictureNotFoundError(f"The file of picture {name} is gone.")


def _require_not_expired(task: Task) -> None:
    """Raise that a task's pictures were deleted, if they were."""
    if task.expired_at is not None:
        raise PictureExpiredError(
            f"The pictures of task {task.id} were deleted at"
            f" {datetime.fromtimestamp(task.expired_at, UTC):%Y-%m-%d %H:%M} UTC: this server keeps"
            " pictures for a certain time, and so many of them."
        )


async def _answer(
    converting: Converting,
    picture: Blob,
    to: Format,
    compression: int | None,
    field: str = "output_compression",
) -> Response:
    """Send a picture; `field` is the name under which a request has the compression."""
    if to is Format.PNG and compression is None:
        return _as_it_is(picture, to.media_type)
    data = await converting.convert(picture, to, compression, field)
    return Response(data, media_type=to.media_type, headers=_KEPT)


def _as_it_is(picture: Blob, media_type: str) -> Response:
    """Send a file, or parts of it, from where it lies; what was fetched whole is sent whole."""
    if picture.path is not None:
        return FileResponse(picture.path, media_type=media_type, headers=_KEPT)
    version = {"ETag": picture.etag, "Last-Modified": formatdate(picture.put_at, usegmt=True)}
    return Response(picture.data, media_type=media_type, headers=_KEPT | version)
