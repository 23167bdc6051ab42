"""From a batch's file to what it asks for: every line is right, or what is wrong with which."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hidream_server.api.access import Caller
from hidream_server.api.errors import form_problem, openai_body
from hidream_server.api.openai.models import require_served
from hidream_server.api.openai.schemas import ImageRequest
from hidream_server.api.schemas import GenerationRequest, Text
from hidream_server.api.services import Services
from hidream_server.errors import (
    FieldProblem,
    HiDreamError,
    InvalidRequestError,
    ModelNotFoundError,
)
from hidream_server.store.batches import Line

#: As OpenAI has it.
MOST_LINES = 50_000
#: Nobody reads more of them.
_MOST_ERRORS = 100
_ID_CHARS = 512
_BOM = b"\xef\xbb\xbf"


class _LineForm(BaseModel):
    """What is in a line."""

    model_config = ConfigDict(extra="ignore", strict=True)

    custom_id: Annotated[Text, Field(min_length=1, max_length=_ID_CHARS)]
    method: Literal["POST"]
    url: Literal["/v1/images/generations"]
    body: ImageRequest


class ReadLines(NamedTuple):
    """What a file has in it; nothing counts where there are errors."""

    lines: list[Line]
    requests: list[GenerationRequest]
    #: As OpenAI's clients expect them.
    errors: list[dict[str, Any]]


class _LineError(Exception):
    """A line is wrong."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        self.about = {"code": code, "message": message, "param": param}
        super().__init__(message)


def read_lines(services: Services, caller: Caller, content: bytes) -> ReadLines:
    """Read the file of a batch."""
    read = ReadLines([], [], [])
    names: set[str] = set()
    for number, text in _numbered(content):
        try:
            form = _form(services, text)
            if form.custom_id in names:
                raise _LineError(
                    "duplicate_custom_id", "custom_id: another line has it", "custom_id"
                )
            names.add(form.custom_id)
            read.requests.append(_request(services, caller, form.body))
            body = form.body.model_dump(mode="json", exclude_defaults=True)
            read.lines.append(Line(form.custom_id, body))
        except _LineError as error:
            read.errors.append({"line": number, **error.about})
        if len(read.errors) == _MOST_ERRORS:
            break
    if not read.lines and not read.errors:
        empty = _LineError("empty_file", "The file has no requests in it.")
        read.errors.append({"line": 1, **empty.about})
    return read


def _numbered(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, each with its number from 1."""
    for number, text in enumerate(content.removeprefix(_BOM).split(b"\n"), 1):
        if text.strip():
            yield number, text


def _form(services: Services, text: bytes) -> _LineForm:
    try:
        return _LineForm.model_validate(json.loads(text.decode()))
    except UnicodeDecodeError as error:
        raise _LineError("invalid_utf8", "The line is not UTF-8.") from error
    except ValidationError as error:
        # Where one thing is wrong, others may be for it.
        found = error.errors()[0]
        problem = form_problem({**found, "loc": ("line", *found["loc"])}, services.limits)
        raise _wrong(problem) from error
    except (ValueError, RecursionError) as error:
        raise _LineError("invalid_json", "The line is not valid JSON.") from error


def _request(services: Services, caller: Caller, body: ImageRequest) -> GenerationRequest:
    """Return what a body asks for, if it asks for what can be."""
    if body.stream:
        raise _wrong(FieldProblem("body.stream", True, "false: a batch cannot be streamed"))
    try:
        require_served(services, body.model)
        body.require_possible()
        request = body.task(services.model, services.settings.max_previews)
        services.limits.accept([request], key=caller.key)
    except ModelNotFoundError as error:
        raise _of(error, "body.model") from error
    except InvalidRequestError as error:
        raise _of(error, None) from error
    return request


def _wrong(problem: FieldProblem) -> _LineError:
    return _of(InvalidRequestError([problem]), problem.field)


def _of(error: HiDreamError, param: str | None) -> _LineError:
    said: Mapping[str, Any] = openai_body(error)["error"]
    return _LineError(said["code"], said["message"], param or f"body.{said['param']}")
