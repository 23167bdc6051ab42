"""Batches of OpenAI's clients: many requests in a file, accepted all or none, answered in files."""

import hashlib
import secrets
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from hidream_server.api.access import Caller, CallerDep
from hidream_server.api.openai.batch_lines import MOST_LINES, read_lines
from hidream_server.api.openai.files import content_of
from hidream_server.api.openai.pages import After, listed
from hidream_server.api.openai.results import results_id
from hidream_server.api.schemas import Text
from hidream_server.api.services import Services, ServicesDep
from hidream_server.api.submission import accept_batch
from hidream_server.api.tasks import IdempotencyKey
from hidream_server.errors import BatchEndedError, BatchNotFoundError, RequestReusedError
from hidream_server.store.batches import Batch, Progress
from hidream_server.store.paging import Page

router = APIRouter(prefix="/v1/batches", tags=["openai"])

#: Said by clients and to them; tasks wait as long as they have to.
_WINDOW_S = 86400
_MOST_LISTED = 100

_Key = Annotated[Text, Field(max_length=64)]
_Value = Annotated[Text, Field(max_length=512)]


class BatchForm(BaseModel):
    """What OpenAI's clients send. Fields that mean nothing here are accepted and ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)

    input_file_id: str
    endpoint: Literal["/v1/images/generations"]
    completion_window: Literal["24h"]
    metadata: dict[_Key, _Value] | None = Field(None, max_length=16)


@router.post("")
def create_batch(
    body: BatchForm,
    caller: CallerDep,
    services: ServicesDep,
    idempotency_key: IdempotencyKey = None,
) -> dict[str, Any]:
    """Accept all requests of a file, or none; a file with a wrong line makes a failed batch.

    Sent again with the same Idempotency-Key it answers with the same batch.
    """
    batch_id = _id(caller, idempotency_key)
    if earlier := services.batches.find(batch_id):
        _require_same(earlier, body)
        return _now(services, earlier)
    content = content_of(services, body.input_file_id, caller)
    read = read_lines(services, caller, content)
    batch = Batch(
        # One of which nothing comes may as well be made twice.
        id=_id(caller, None) if read.errors else batch_id,
        client=caller.client,
        endpoint=body.endpoint,
        input_file_id=body.input_file_id,
        completion_window=body.completion_window,
        created_at=time.time(),
        metadata=body.metadata or {},
        total=0 if read.errors else len(read.lines),
        errors=read.errors,
    )
    if read.errors:
        services.batches.add(batch)
    else:
        along = services.batches.adding(batch, read.lines)
        accept_batch(services, read.requests, caller, batch.request_key, MOST_LINES, along)
    # The same request may have come twice at once, and the other one first.
    return _now(services, _found(services, batch.id, caller))


@router.get("")
def list_batches(
    caller: CallerDep,
    services: ServicesDep,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=_MOST_LISTED)] = 20,
) -> dict[str, Any]:
    """List the batches, the newest first."""
    if after is not None:
        _found(services, after, caller)
    page = Page(count=limit, client=caller.sees_only, after=after)
    found, more = services.batches.page(page)
    progress = services.batches.progress(found)
    return listed([_described(batch, progress[batch.id]) for batch in found], more)


@router.get("/{batch_id}")
def get_batch(batch_id: str, caller: CallerDep, services: ServicesDep) -> dict[str, Any]:
    """Say how a batch is doing, and which files it came to."""
    return _now(services, _found(services, batch_id, caller))


@router.post("/{batch_id}/cancel")
def cancel_batch(batch_id: str, caller: CallerDep, services: ServicesDep) -> dict[str, Any]:
    """Cancel those tasks of a batch that have not ended; doing so again changes nothing."""
    batch = _found(services, batch_id, caller)
    along = services.batches.cancelling(batch, time.time())
    services.queue.cancel_request(batch.client, batch.request_key, along)
    batch = _found(services, batch_id, caller)
    if batch.cancelled_at is None:
        raise BatchEndedError(f"Batch {batch_id} has ended; it can no longer be cancelled.")
    return _now(services, batch)


def _id(caller: Caller, key: str | None) -> str:
    """Return a new id, or the one that belongs to a client's own name for its request."""
    if key is None:
        return f"batch_{secrets.token_hex(16)}"
    name = f"{caller.client}\n{key}".encode()
    return f"batch_{hashlib.sha256(name).hexdigest()[:32]}"


def _require_same(earlier: Batch, body: BatchForm) -> None:
    """Raise RequestReusedError if a batch was asked for with another body."""
    before = (earlier.input_file_id, earlier.endpoint, earlier.metadata)
    if before != (body.input_file_id, body.endpoint, body.metadata or {}):
        raise RequestReusedError("The Idempotency-Key was sent with another request.")


def _found(services: Services, batch_id: str, caller: Caller) -> Batch:
    """Find a batch; another's is as good as none."""
    batch = services.batches.find(batch_id)
    if batch is None or not caller.sees(batch):
        raise BatchNotFoundError(f"There is no batch {batch_id}.")
    return batch


def _now(services: Services, batch: Batch) -> dict[str, Any]:
    return _described(batch, services.batches.progress([batch])[batch.id])


def _described(batch: Batch, progress: Progress) -> dict[str, Any]:
    status = _status(batch, progress)
    created, cancelled = int(batch.created_at), _whole(batch.cancelled_at)
    completed_at = _whole(progress.ended_at) or created if status == "completed" else None
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": status,
        "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
        "created_at": created,
        "in_progress_at": None if batch.errors else created,
        "expires_at": created + _WINDOW_S,
        "finalizing_at": completed_at,
        "completed_at": completed_at,
        "failed_at": created if batch.errors else None,
        "expired_at": None,
        "cancelling_at": cancelled,
        "cancelled_at": cancelled,
        "metadata": batch.metadata or None,
        **_outcome(batch, progress),
    }


def _status(batch: Batch, progress: Progress) -> str:
    if batch.errors:
        return "failed"
    if batch.cancelled_at is not None:
        # All of its tasks were, in the same transaction.
        return "cancelled"
    return "in_progress" if progress.open else "completed"


def _outcome(batch: Batch, progress: Progress) -> dict[str, Any]:
    """Count what has ended, and name the files with it once all has."""
    failed = batch.total - progress.open - progress.completed
    painted, others = progress.completed - progress.expired, failed + progress.expired
    ended = not progress.open
    return {
        "request_counts": {
            "total": batch.total,
            "completed": progress.completed,
            "failed": failed,
        },
        "output_file_id": results_id(batch, failed=False) if ended and painted else None,
        "error_file_id": results_id(batch, failed=True) if ended and others else None,
    }


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)
