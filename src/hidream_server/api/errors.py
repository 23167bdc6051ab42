"""The one edge at which errors become HTTP answers, all of one shape.

A class is looked up along its bases, so a new error needs no new code here.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hidream_server.api.limits import Limits
from hidream_server.errors import (
    FieldProblem,
    HiDreamError,
    InvalidRequestError,
    PictureNotFoundError,
    RequestError,
    StoreUnavailableError,
    TaskFailedError,
    TaskNotFinishedError,
    TaskNotFoundError,
)

logger = logging.getLogger(__name__)

STATUS: dict[type[HiDreamError], int] = {
    InvalidRequestError: 422,
    TaskNotFoundError: 404,
    PictureNotFoundError: 404,
    TaskNotFinishedError: 409,
    TaskFailedError: 409,
    StoreUnavailableError: 503,
    RequestError: 400,
    HiDreamError: 500,
}

#: Longest part of a wrong value that is given back.
_SHOWN_CHARS = 200


def handle_errors(app: FastAPI) -> None:
    """Answer every error of this app in the one shape."""
    app.add_exception_handler(HiDreamError, _own)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def status_of(error: HiDreamError) -> int:
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


async def _own(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HiDreamError)
    problems = error.problems if isinstance(error, InvalidRequestError) else []
    return _answer(status_of(error), error.code, str(error), problems)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Turn a body of the wrong form into the same error as a value out of range."""
    assert isinstance(error, RequestValidationError)
    limits: Limits = request.app.state.services.limits
    problems = [_form_problem(found, limits) for found in error.errors()]
    return await _own(request, InvalidRequestError(problems))


def _form_problem(found: dict[str, Any], limits: Limits) -> FieldProblem:
    """Say what is wrong with the form of one field, and its range where it has one."""
    if found["type"] == "json_invalid":
        return FieldProblem("body", None, f"valid JSON; {found['ctx']['error']}")
    path = [str(part) for part in found["loc"][1:]]
    value = None if found["type"] == "missing" else found["input"]
    allowed = limits.ranges.get(path[-1]) if path else None
    about_range = f", {allowed.allowed}" if allowed else ""
    return FieldProblem(".".join(path) or "body", value, found["msg"] + about_range)


async def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    answer = _answer(error.status_code, code, str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _answer(500, "internal", "The server made a mistake; its log says which.")


def _answer(
    status: int, code: str, message: str, problems: Sequence[FieldProblem] = ()
) -> JSONResponse:
    body: dict[str, Any] = {"code": code, "message": _encodable(message), "problems": []}
    for problem in problems:
        shown = {"field": _encodable(problem.field), "value": _shown(problem.value)}
        body["problems"].append(shown | {"allowed": problem.allowed})
    return JSONResponse({"error": body}, status)


def _shown(value: object) -> object:
    """Give a value back as JSON can carry it: short, finite, encodable."""
    if value is None or isinstance(value, bool | int) or _finite(value):
        return (
            value if not isinstance(value, int) or abs(value) < 2**64 else str(value)[:_SHOWN_CHARS]
        )
    text = value if isinstance(value, str) else repr(value)
    return _encodable(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…")


def _finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _encodable(text: str) -> str:
    """Replace lone surrogates, which JSON may carry and UTF-8 may not."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
