"""Errors as OpenAI's clients expect them: their statuses, their types, their one shape.

Source: https://platform.openai.com/docs/guides/error-codes
"""

from collections.abc import Sequence
from typing import Any

from hidream_server.errors import FieldProblem

PREFIX = "/v1/"

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}

#: What fields are called there that have another name here.
FIELDS = {
    "resolution": "size",
    "num_images_per_prompt": "n",
    "num_previews": "partial_images",
    "requests": "input_file_id",
}


#: That there is no picture is the server's fault there, and no conflict.
_FAILURES = ("task_failed", "task_cancelled")


def status_there(status: int, code: str) -> int:
    """Return what the status of an error is there.

    A wrong form and a value out of range are one thing.
    """
    if code in _FAILURES:
        return 500
    return 400 if status == 422 else status


def message_there(problems: Sequence[FieldProblem]) -> str:
    """Say what is wrong with fields, by their names there."""
    return "; ".join(f"{FIELDS.get(p.field, p.field)}: {p.allowed}" for p in problems)


def envelope(status: int, code: str, message: str, field: str | None) -> dict[str, Any]:
    """Return the body of an error; `field` is the first that is wrong, by its name here."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    param = None if field is None else FIELDS.get(field, field)
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
