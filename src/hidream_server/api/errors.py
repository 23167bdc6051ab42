"""The one edge at which errors become HTTP answers, all of one shape; of OpenAI's on its routes.

A class is looked up along its bases, so a new error needs no new code here.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hidream_server.api.limits import Limits
from hidream_server.api.measuring import note_error
from hidream_server.api.openai.envelope import PREFIX, envelope, message_there, status_there
from hidream_server.api.paths import route_path
from hidream_server.api.schemas import BatchRequest, GenerationRequest
from hidream_server.errors import (
    BatchEndedError,
    BatchFileNotFoundError,
    BatchNotFoundError,
    BodyTooLargeError,
    FieldProblem,
    FilesFullError,
    ForbiddenError,
    HeadTooLargeError,
    HiDreamError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadError,
    PictureExpiredError,
    PictureNotFoundError,
    PreviewNotFoundError,
    RequestError,
    RequestReusedError,
    StoppingError,
    StoreUnavailableError,
    TaskCancelledError,
    TaskEndedError,
    TaskFailedError,
    TaskNotFinishedError,
    TaskNotFoundError,
    TaskNotRetryableError,
    TooManyConnectionsError,
    UnauthorizedError,
)
from hidream_server.settings import Settings

logger = logging.getLogger(__name__)

STATUS: dict[type[HiDreamError], int] = {
    InvalidRequestError: 422,
    UnauthorizedError: 401,
    ForbiddenError: 403,
    TaskNotFoundError: 404,
    BatchFileNotFoundError: 404,
    BatchNotFoundError: 404,
    ModelNotFoundError: 404,
    PictureNotFoundError: 404,
    PreviewNotFoundError: 404,
    TaskNotFinishedError: 409,
    TaskFailedError: 409,
    TaskCancelledError: 409,
    TaskEndedError: 409,
    BatchEndedError: 409,
    TaskNotRetryableError: 409,
    PictureExpiredError: 410,
    BodyTooLargeError: 413,
    FilesFullError: 413,
    RequestReusedError: 422,
    OverloadError: 429,
    HeadTooLargeError: 431,
    TooManyConnectionsError: 503,
    StoreUnavailableError: 503,
    StoppingError: 503,
    RequestError: 400,
    HiDreamError: 500,
}

#: Longest part of a wrong value that is given back.
_SHOWN_CHARS = 200
#: Larger whole numbers are given back as text.
_LARGE = 2**64


def handle_errors(app: FastAPI) -> None:
    """Answer every error of this app in the one shape."""
    app.add_exception_handler(HiDreamError, _own)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def status_of(error: HiDreamError) -> int:
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


def body_too_large(settings: Settings) -> BodyTooLargeError:
    return BodyTooLargeError(f"The body is larger than {settings.max_body_mb} MiB.")


def answer(request: Request | None, error: HiDreamError) -> JSONResponse:
    """Say an error of this project, as the one who asked expects it, if that is known."""
    problems = error.problems if isinstance(error, InvalidRequestError) else []
    response = _answer(request, status_of(error), error.code, str(error), problems)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    # OpenAI's clients repeat what failed by the server's fault, and a conflict, unless told.
    response.headers["x-should-retry"] = "false" if error.retry_after_s is None else "true"
    if isinstance(error, UnauthorizedError):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def openai_body(error: HiDreamError) -> dict[str, Any]:
    """Return an error as OpenAI's clients read it, where it is not the whole answer."""
    problems = error.problems if isinstance(error, InvalidRequestError) else []
    field = problems[0].field if problems else None
    message = _encodable(message_there(problems) or str(error))
    return envelope(openai_status(error), error.code, message, field)


def openai_status(error: HiDreamError) -> int:
    """Return the status of an error where OpenAI's clients read it."""
    return status_there(status_of(error), error.code)


async def _own(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HiDreamError)
    return answer(request, error)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Turn a body of the wrong form into the same error as a value out of range."""
    assert isinstance(error, RequestValidationError)
    limits: Limits = request.app.state.services.limits
    problems = [form_problem(found, limits) for found in error.errors()]
    return answer(request, InvalidRequestError(problems))


def form_problem(found: Mapping[str, Any], limits: Limits) -> FieldProblem:
    """Say what is wrong with the form of one field, and its range where it has one."""
    if found["type"] == "json_invalid":
        return FieldProblem("body", None, f"valid JSON; {found['ctx']['error']}")
    path = [str(part) for part in found["loc"][1:]]
    value = None if found["type"] == "missing" else found["input"]
    return FieldProblem(".".join(path) or "body", value, _allowed(found, path, limits))


def _allowed(found: Mapping[str, Any], path: list[str], limits: Limits) -> str:
    """Say what would be right, in our own words where pydantic's are for programmers."""
    match found["type"]:
        case "missing":
            return "required"
        case "extra_forbidden":
            fields = BatchRequest if path == ["requests"] else GenerationRequest
            return f"no such field; the fields are {', '.join(fields.model_fields)}"
        case "string_pattern_mismatch" if path == ["idempotency-key"]:
            return "1 to 255 printable ASCII characters, with no space at either end"
        case "model_attributes_type":
            return "a JSON object, sent with the header Content-Type: application/json"
    limit = limits.ranges.get(path[-1]) if path else None
    return str(found["msg"]) + (f", {limit.allowed}" if limit else "")


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 413:
        return answer(request, body_too_large(request.app.state.services.settings))
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    response = _answer(request, error.status_code, code, str(error.detail))
    response.headers.update(error.headers or {})
    return response


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(request, 500, "internal", "The server made a mistake; its log says which.")


def _answer(
    request: Request | None,
    status: int,
    code: str,
    message: str,
    problems: Sequence[FieldProblem] = (),
) -> JSONResponse:
    if request is not None:
        note_error(request, code)
    if request is not None and route_path(request.scope).startswith(PREFIX):
        field = problems[0].field if problems else None
        message = _encodable(message_there(problems) or message)
        body = envelope(status_there(status, code), code, message, field)
        return JSONResponse(body, status_there(status, code))
    return JSONResponse({"error": _body(code, message, problems)}, status)


def _body(code: str, message: str, problems: Sequence[FieldProblem]) -> dict[str, Any]:
    body: dict[str, Any] = {"code": code, "message": _encodable(message), "problems": []}
    for problem in problems:
        shown = {"field": _encodable(problem.field), "value": _shown(problem.value)}
        body["problems"].append(shown | {"allowed": problem.allowed})
    return body


def _shown(value: object) -> object:
    """Give a value back as JSON can carry it: short, finite, encodable."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < _LARGE:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    text = value if isinstance(value, str) else repr(value)
    return _encodable(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…")


def _encodable(text: str) -> str:
    """Replace lone surrogates, which JSON may carry and UTF-8 may not."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
