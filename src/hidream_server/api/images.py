"""Fetch pictures. Only published ones: what a task's row names, and only from the one folder."""

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from hidream_server.api.access import CallerDep, FollowedDep
from hidream_server.api.services import Services, ServicesDep
from hidream_server.errors import (
    PictureExpiredError,
    PictureNotFoundError,
    PreviewNotFoundError,
    TaskCancelledError,
    TaskFailedError,
    TaskNotFinishedError,
)
from hidream_server.store.keyed_files import preview_key
from hidream_server.store.pictures import task_of
from hidream_server.task import Task, TaskState

router = APIRouter(tags=["images"])

_PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}}


@router.get("/download/{task_id}", response_class=FileResponse, responses=_PNG)
def download(followed: FollowedDep, services: ServicesDep, image_index: int = 0) -> FileResponse:
    """Return one picture of a task as a file to keep."""
    task = followed.task
    if task.state is TaskState.FAILED:
        raise TaskFailedError(f"Task {task.id} failed: {task.error}")
    if task.state is TaskState.CANCELLED:
        raise TaskCancelledError(f"Task {task.id} was cancelled; it has no picture.")
    if task.state is not TaskState.COMPLETED:
        raise TaskNotFinishedError(f"Task {task.id} is {task.state}; it has no picture yet.")
    _require_index(image_index, len(task.pictures))
    _require_kept(task)
    return _file(services, task.pictures[image_index], f"{task.id}_image_{image_index}.png")


@router.get("/preview/{task_id}", response_class=Response, responses=_PNG)
def preview(followed: FollowedDep, services: ServicesDep, image_index: int = 0) -> Response:
    """Return how an unfinished image looked last; for tasks submitted with num_previews."""
    task = followed.task
    _require_index(image_index, task.params.num_images)
    data = services.previews.get(preview_key(task.id, image_index))
    if data is None or not task.state.is_open:
        raise PreviewNotFoundError(
            f"Task {task.id} has no preview of image {image_index} now: it was submitted without"
            " num_previews, has not come so far, or has ended."
        )
    return Response(data, media_type="image/png")


@router.get("/images/{name}", response_class=FileResponse, responses=_PNG)
def image(name: str, caller: CallerDep, services: ServicesDep) -> FileResponse:
    """Return a picture by its name, as `result_urls` gives it."""
    task_id = task_of(name)
    task = services.queue.get(task_id) if task_id else None
    if task is None or not caller.sees(task) or name not in task.pictures:
        raise PictureNotFoundError("There is no such picture.")
    _require_kept(task)
    return _file(services, name)


def _require_index(image_index: int, count: int) -> None:
    if not 0 <= image_index < count:
        raise PictureNotFoundError(f"The task has {count} picture(s), numbered from 0.")


def _require_kept(task: Task) -> None:
    if task.expired_at is not None:
        raise PictureExpiredError(
            f"The pictures of task {task.id} were deleted at"
            f" {datetime.fromtimestamp(task.expired_at, UTC):%Y-%m-%d %H:%M} UTC: this server keeps"
            " pictures for a certain time, and so many of them."
        )


def _file(services: Services, name: str, save_as: str | None = None) -> FileResponse:
    path = services.pictures.path(name)
    if path is None:
        raise PictureNotFoundError(f"The file of picture {name} is gone.")
    return FileResponse(path, media_type="image/png", filename=save_as)
