"""What the tests of the HTTP side share."""

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import uvloop
from fastapi import FastAPI

from hidream_server.engine.health import EngineHealth


@dataclass
class Engine:
    """Stands in for the supervisor's word on the engine."""

    now: EngineHealth


def error_of(response: Any, status: int) -> dict[str, Any]:
    """Return the error in an answer, which must have the one shape and this status."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    error = body["error"]
    assert set(error) == {"code", "message", "problems"}
    assert error["code"]
    assert error["message"]
    for problem in error["problems"]:
        assert set(problem) == {"field", "value", "allowed"}
        assert problem["field"]
        assert problem["allowed"]
    return error


def problem_of(response: Any) -> dict[str, Any]:
    """Return the one problem for which a request was refused."""
    error = error_of(response, 422)
    assert error["code"] == "invalid_request"
    [problem] = error["problems"]
    return problem


def raw_get(app: FastAPI, path: str) -> tuple[int, bytes]:
    """GET a path exactly as it is written; clients tidy up `..` before they send it."""
    sent: list[dict[str, Any]] = []
    requests = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not requests:
            await asyncio.Event().wait()
        return requests.pop()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    uvloop.run(app(raw_scope(path), receive, send))
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], body


def raw_scope(path: str) -> dict[str, Any]:
    """Return what a server hands to an app for a GET of a path."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"testserver")],
        "server": ("testserver", 80),
        "client": ("client", 1),
    }
