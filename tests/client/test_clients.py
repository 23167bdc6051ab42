"""Both clients on a real connection do the same, from the same plans."""

import inspect
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hidream_server.client import AsyncClient, Client, ServerError, UnreachableError
from hidream_server.settings import Settings
from tests.api.openai.conftest import png
from tests.client.test_plans import status
from tests.e2e.server import free_port
from tests.http_server import http_server


class Sync:
    """A client that waits, used as it is."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self._client = Client(url, key)
        self._client._sleep = lambda _seconds: None

    def __call__(self, verb: str, *arguments: Any, **options: Any) -> Any:
        found = getattr(self._client, verb)(*arguments, **options)
        return list(found) if isinstance(found, Iterator) else found

    def close(self) -> None:
        self._client.close()


class Async:
    """A client that awaits, each time on a loop of its own."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self._where = url, key

    def __call__(self, verb: str, *arguments: Any, **options: Any) -> Any:
        async def ask() -> Any:
            async with AsyncClient(*self._where) as client:
                client._sleep = no_sleep
                found = getattr(client, verb)(*arguments, **options)
                return await found if inspect.isawaitable(found) else [each async for each in found]

        return uvloop.run(ask())

    def close(self) -> None:
        pass


async def no_sleep(_seconds: float) -> None:
    pass


class Site:
    """A server that is told what to answer, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self.answers: list[Response] = []

    async def answer(self, request: Request) -> Response:
        path = f"{request.url.path}?{request.url.query}".rstrip("?")
        self.asked.append((request.method, path, request.headers.get("authorization")))
        return self.answers.pop(0)


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def url(site: Site) -> Iterator[str]:
    methods = ["GET", "POST", "DELETE"]
    app = Starlette(routes=[Route("/{path:path}", site.answer, methods=methods)])
    with http_server(app, Settings()) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(params=[Sync, Async])
def kind(request: pytest.FixtureRequest) -> type[Sync] | type[Async]:
    return request.param


@pytest.fixture
def ask(kind, url: str) -> Iterator[Sync | Async]:
    client = kind(f"{url}/under/a/path", "hd_key")
    yield client
    client.close()


def test_a_picture_is_made(ask, site: Site) -> None:
    site.answers = [
        Response(status_code=503, headers={"Retry-After": "1"}),
        JSONResponse({"task_id": "a"}),
        JSONResponse(status("queued", seeds=[5])),
        JSONResponse(status("completed", seeds=[5])),
        Response(png(64, 32), media_type="image/png"),
    ]
    assert ask("generate", "a cat", seed=5).size == (64, 32)
    base = "/under/a/path"
    assert site.asked[-1] == ("GET", f"{base}/download/a?image_index=0", "Bearer hd_key")
    assert [path for _, path, _ in site.asked[:2]] == [f"{base}/submit"] * 2


def test_tasks_are_listed_over_pages(ask, site: Site) -> None:
    site.answers = [
        JSONResponse({"tasks": [status(task_id="a"), status(task_id="b")], "next_cursor": 3}),
        JSONResponse({"tasks": [status(task_id="c")], "next_cursor": None}),
    ]
    assert [each.task_id for each in ask("tasks", prompt="a cat")] == ["a", "b", "c"]
    assert site.asked[1][1] == "/under/a/path/tasks?prompt=a+cat&limit=100&cursor=3"


def test_what_has_no_answer_is_none(ask, site: Site) -> None:
    site.answers = [Response(status_code=204)]
    assert ask("delete", "a") is None
    assert site.asked[0][0] == "DELETE"


@pytest.mark.parametrize("body", [b"not json", b"", b"[1, 2"])
def test_an_answer_that_says_json_and_is_none_is_an_error(ask, site: Site, body: bytes) -> None:
    site.answers = [Response(body, 404, media_type="application/json")]
    with pytest.raises(ServerError, match="answered 404"):
        ask("status", "a")


def test_a_server_that_is_not_there_is_said_in_one_sentence(kind) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    client = kind(address)
    with pytest.raises(
        UnreachableError, match=rf"^The server cannot be reached at {address}/?: .+\.$"
    ):
        client("health")
    client.close()


def test_both_have_the_same_verbs_with_the_same_words() -> None:
    for name, method in vars(Client).items():
        if not name.startswith("_") and name != "close":
            other = getattr(AsyncClient, name)
            assert method.__doc__
            assert method.__doc__ == other.__doc__
            assert inspect.signature(method).parameters == inspect.signature(other).parameters


def test_an_error_without_words_is_said_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(**_: object) -> None:
        raise httpx2.ReadError("")

    with Client("http://127.0.0.1:9") as client:
        client._sleep = lambda _seconds: None
        monkeypatch.setattr(client._http, "request", break_off)
        with pytest.raises(UnreachableError, match=r"at http://127.0.0.1:9/?: ReadError\.$"):
            client.health()
