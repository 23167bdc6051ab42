"""Two clients that carry out the same plans: one waits for answers, the other awaits them."""

import asyncio
import functools
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

import httpx2
from PIL import Image

from hidream_server.client import plans
from hidream_server.client.plans import Answer, Call, Item, Pause, Plan, Series

P = ParamSpec("P")
T = TypeVar("T")

#: Longer than the server holds an answer back, in seconds.
_TIMEOUT_S = 60.0


class _Base:
    """What both need to know: where the server is, and who asks."""

    def __init__(self, url: str = "http://localhost:8088", key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._options: dict[str, Any] = {
            "base_url": url.rstrip("/") + "/",
            "headers": headers,
            "timeout": _TIMEOUT_S,
        }


def _sync(plan: Callable[P, Plan[T]]) -> "Callable[Concatenate[Client, P], T]":
    @functools.wraps(plan)
    def method(client: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return client._run(plan(*args, **kwargs))

    return method


def _asynchronous(
    plan: Callable[P, Plan[T]],
) -> "Callable[Concatenate[AsyncClient, P], Awaitable[T]]":
    @functools.wraps(plan)
    async def method(client: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await client._run(plan(*args, **kwargs))

    return method


class Client(_Base):
    """Waits for answers."""

    def __init__(self, url: str = "http://localhost:8088", key: str | None = None) -> None:
        super().__init__(url, key)
        self._http = httpx2.Client(**self._options)
        self._sleep = time.sleep

    submit = _sync(plans.submit)
    status = _sync(plans.status)
    wait = _sync(plans.wait)
    pictures = _sync(plans.pictures)
    generate_files = _sync(plans.generate)
    cancel = _sync(plans.cancel)
    retry = _sync(plans.retry)
    delete = _sync(plans.delete)
    health = _sync(plans.health)
    groups = _sync(plans.groups)

    def generate(self, prompt: str, **options: Any) -> Image.Image:
        """Make one picture; options are the fields of a request, and `on_progress`."""
        return _opened(self.generate_files(prompt, **options | {"num_images_per_prompt": 1}))

    def tasks(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Yield tasks, the latest first: all, or those in a `state`, or with words in `prompt`."""
        series = plans.tasks(*args, **kwargs)
        step = next(series, None)
        while step is not None:
            if isinstance(step, Item):
                yield step.value
            step = _next(series, None if isinstance(step, Item) else self._do(step))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, plan: Plan[T]) -> T:
        try:
            step = next(plan)
            while True:
                step = plan.send(self._do(step))
        except StopIteration as end:
            result: T = end.value
            return result

    def _do(self, step: Call | Pause) -> Answer | None:
        if isinstance(step, Pause):
            self._sleep(step.seconds)
            return None
        try:
            return _answer(self._http.request(**_request(step)))
        except httpx2.TransportError as error:
            return Answer(0, error=_why(self._http.base_url, error))


class AsyncClient(_Base):
    """Awaits answers; belongs to one event loop."""

    def __init__(self, url: str = "http://localhost:8088", key: str | None = None) -> None:
        super().__init__(url, key)
        self._http = httpx2.AsyncClient(**self._options)
        self._sleep = asyncio.sleep

    submit = _asynchronous(plans.submit)
    status = _asynchronous(plans.status)
    wait = _asynchronous(plans.wait)
    pictures = _asynchronous(plans.pictures)
    generate_files = _asynchronous(plans.generate)
    cancel = _asynchronous(plans.cancel)
    retry = _asynchronous(plans.retry)
    delete = _asynchronous(plans.delete)
    health = _asynchronous(plans.health)
    groups = _asynchronous(plans.groups)

    async def generate(self, prompt: str, **options: Any) -> Image.Image:
        """Make one picture; options are the fields of a request, and `on_progress`."""
        return _opened(await self.generate_files(prompt, **options | {"num_images_per_prompt": 1}))

    async def tasks(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Yield tasks, the latest first: all, or those in a `state`, or with words in `prompt`."""
        series = plans.tasks(*args, **kwargs)
        step = next(series, None)
        while step is not None:
            if isinstance(step, Item):
                yield step.value
            step = _next(series, None if isinstance(step, Item) else await self._do(step))

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, plan: Plan[T]) -> T:
        try:
            step = next(plan)
            while True:
                step = plan.send(await self._do(step))
        except StopIteration as end:
            result: T = end.value
            return result

    async def _do(self, step: Call | Pause) -> Answer | None:
        if isinstance(step, Pause):
            await self._sleep(step.seconds)
            return None
        try:
            return _answer(await self._http.request(**_request(step)))
        except httpx2.TransportError as error:
            return Answer(0, error=_why(self._http.base_url, error))


def _next(series: Series, answer: Answer | None) -> Call | Pause | Item | None:
    try:
        return series.send(answer)
    except StopIteration:
        return None


def _request(call: Call) -> dict[str, Any]:
    return {
        "method": call.method,
        "url": call.path,
        "json": call.body,
        "params": dict(call.query),
        "headers": dict(call.headers),
    }


def _answer(response: httpx2.Response) -> Answer:
    is_json = response.headers.get("content-type", "").startswith("application/json")
    try:
        data = response.json() if is_json else response.content
    except ValueError:
        data = None
    wait = response.headers.get("retry-after", "")
    return Answer(response.status_code, data, float(wait) if wait.isdecimal() else None)


def _why(server: httpx2.URL, error: httpx2.TransportError) -> str:
    return f"{server}: {str(error) or type(error).__name__}"


def _opened(files: list[bytes]) -> Image.Image:
    picture = Image.open(io.BytesIO(files[0]))
    picture.load()
    return picture
