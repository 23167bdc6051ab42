"""Files of OpenAI's clients: those they upload, and those that batches come to.

The latter are kept nowhere: they are made of a batch's tasks when they are read.
"""

import math
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse

from hidream_server.api.access import Caller, CallerDep
from hidream_server.api.openai.pages import After, Order, listed
from hidream_server.api.openai.results import BatchResults, results_of
from hidream_server.api.services import LinksDep, Services, ServicesDep
from hidream_server.errors import (
    BatchFileNotFoundError,
    FieldProblem,
    InvalidRequestError,
    NotSupportedError,
)
from hidream_server.store.files import StoredFile
from hidream_server.store.paging import Page

router = APIRouter(prefix="/v1/files", tags=["openai"])

_MEDIA_TYPE = "application/jsonl"
_MOST_LISTED = 10_000
_NAME_CHARS = 255


@router.post("")
def upload(
    file: UploadFile,
    purpose: Annotated[Literal["batch"], Form()],
    caller: CallerDep,
    services: ServicesDep,
) -> dict[str, Any]:
    """Keep a file with the requests of a batch, one a line."""
    name = file.filename or ""
    if len(name) > _NAME_CHARS or not name.isprintable():
        allowed = f"a file whose name has at most {_NAME_CHARS} characters, all printable"
        raise InvalidRequestError([FieldProblem("file", name, allowed)])
    content = file.file.read()
    kept = StoredFile(
        id=f"file-{secrets.token_hex(16)}",
        client=caller.client,
        filename=name,
        purpose=purpose,
        bytes=len(content),
        created_at=time.time(),
    )
    most = services.settings.max_files_mb * 2**20 or math.inf
    services.files.add(kept, content, most)
    return _described(kept)


@router.get("")
def list_files(
    caller: CallerDep,
    services: ServicesDep,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=_MOST_LISTED)] = _MOST_LISTED,
    order: Order = "desc",
    purpose: str = "batch",
) -> dict[str, Any]:
    """List the files that were uploaded."""
    if after is not None:
        _uploaded(services, after, caller)
    if purpose != "batch":
        return listed([], more=False)
    page = Page(count=limit, client=caller.sees_only, after=after, oldest_first=order == "asc")
    found, more = services.files.page(page)
    return listed([_described(file) for file in found], more)


@router.get("/{file_id}")
async def get_file(
    file_id: str, caller: CallerDep, links: LinksDep, services: ServicesDep
) -> dict[str, Any]:
    """Describe a file."""
    results = await run_in_threadpool(results_of, services, links, caller, file_id)
    if results is not None:
        return await _described_results(file_id, results)
    return _described(await run_in_threadpool(_uploaded, services, file_id, caller))


@router.get("/{file_id}/content", response_class=Response)
async def get_content(
    file_id: str, caller: CallerDep, links: LinksDep, services: ServicesDep
) -> Response:
    """Return what is in a file."""
    results = await run_in_threadpool(results_of, services, links, caller, file_id)
    if results is not None:
        lines = results.lines()
        # What cannot be had now is an error only as long as the answer has not begun.
        first = await anext(lines, b"")
        return StreamingResponse(_all(first, lines), media_type=_MEDIA_TYPE)
    content = await run_in_threadpool(content_of, services, file_id, caller)
    return Response(content, media_type=_MEDIA_TYPE)


async def _all(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    async with aclosing(rest):
        async for line in rest:
            yield line


@router.delete("/{file_id}")
def delete_file(
    file_id: str, caller: CallerDep, links: LinksDep, services: ServicesDep
) -> dict[str, Any]:
    """Delete a file that was uploaded; batches made of it go on."""
    if results_of(services, links, caller, file_id) is not None:
        raise NotSupportedError("The files that a batch comes to go when its tasks go.")
    _uploaded(services, file_id, caller)
    services.files.delete(file_id)
    return {"id": file_id, "object": "file", "deleted": True}


def content_of(services: Services, file_id: str, caller: Caller) -> bytes:
    """Return what was uploaded; raise BatchFileNotFoundError."""
    _uploaded(services, file_id, caller)
    content = services.files.content(file_id)
    if content is None:
        raise BatchFileNotFoundError(f"There is no file {file_id}.")
    return content


def _uploaded(services: Services, file_id: str, caller: Caller) -> StoredFile:
    """Find a file; another's is as good as none."""
    file = services.files.find(file_id)
    if file is None or not caller.sees(file):
        raise BatchFileNotFoundError(f"There is no file {file_id}.")
    return file


def _described(file: StoredFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }


async def _described_results(file_id: str, results: BatchResults) -> dict[str, Any]:
    file = StoredFile(
        id=file_id,
        client=results.batch.client,
        filename=f"{file_id}.jsonl",
        purpose="batch_output",
        bytes=await results.size(),
        created_at=results.ended_at,
    )
    return _described(file)
