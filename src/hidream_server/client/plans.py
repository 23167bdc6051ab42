"""What a client does, whether it waits or awaits: plans that yield what is to be done next.

Knows the routes, retries and idempotency keys; knows no connection. A plan is sent the answer to
each call that it yields, so that it is written once for both kinds of client.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

from hidream_server.client.errors import ServerError, TaskNotCompletedError, UnreachableError
from hidream_server.client.status import TaskStatus
from hidream_server.task import TaskState

T = TypeVar("T")

#: How often what may be repeated is tried at most, and how long is waited in between, in seconds.
_TRIES = 5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
#: How often a task is looked at while somebody watches, in seconds.
_WATCH_S = 0.5
#: How long the server may hold an answer back until a task has ended, in seconds.
_WAIT_S = 30
_RETRYABLE = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Call:
    """A request to be sent."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def may_be_repeated(self) -> bool:
        return self.method != "POST" or "Idempotency-Key" in self.headers


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing is to be done for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; status 0: nothing did, and `error` says why."""

    status: int
    data: Any = None
    retry_after_s: float | None = None
    error: str = ""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Item:
    """One of the things that a plan is asked for, where there are several."""

    value: TaskStatus


Plan = Generator[Call | Pause, Answer | None, T]
Series = Generator[Call | Pause | Item, Answer | None, None]
OnProgress = Callable[[TaskStatus], object]


def ask(call: Call) -> Plan[Any]:
    """Return an answer's data; again where that is safe and may help. Raises a ClientError."""
    for attempt in range(_TRIES):
        answer = yield call
        assert answer is not None
        if answer.ok:
            return answer.data
        passing = answer.status in (0, *_RETRYABLE) and call.may_be_repeated
        if not passing or attempt == _TRIES - 1:
            raise _error(answer)
        pause_s = min(_LONGEST_PAUSE_S, answer.retry_after_s or _FIRST_PAUSE_S * 2**attempt)
        yield Pause(pause_s)
    raise AssertionError("unreachable")


def _error(answer: Answer) -> ServerError | UnreachableError:
    if answer.status == 0:
        return UnreachableError(f"The server cannot be reached at {answer.error}.")
    said = answer.data.get("error") if isinstance(answer.data, dict) else None
    if not isinstance(said, dict) or "code" not in said:
        return ServerError(answer.status, "unknown", f"The server answered {answer.status}.")
    return ServerError(answer.status, said["code"], said["message"], said.get("problems", ()))


def submit(prompt: str, *, idempotency_key: str | None = None, **options: Any) -> Plan[TaskStatus]:
    """Submit a task, with the fields of a request as options; return how it is doing.

    It may be sent again without being done twice: it has an idempotency key of its own, unless
    one is given or the task has an id.
    """
    headers = {} if "task_id" in options else {"Idempotency-Key": idempotency_key or str(uuid4())}
    accepted = yield from ask(Call("POST", "submit", {"prompt": prompt, **options}, {}, headers))
    return (yield from status(accepted["task_id"]))


def status(task_id: str) -> Plan[TaskStatus]:
    """Say how a task is doing."""
    return TaskStatus.of((yield from ask(Call("GET", f"status/{task_id}"))))


def wait(task_id: str, on_progress: OnProgress | None = None) -> Plan[TaskStatus]:
    """Wait until a task has ended, however; `on_progress` is called with what is new."""
    query = {} if on_progress else {"wait": _WAIT_S}
    before = None
    while True:
        found = yield from ask(Call("GET", f"status/{task_id}", None, query))
        now = TaskStatus.of(found)
        if on_progress is not None and now != before:
            on_progress(now)
        if not now.state.is_open:
            return now
        before = now
        if on_progress is not None:
            yield Pause(_WATCH_S)


def pictures(task_id: str) -> Plan[list[bytes]]:
    """Wait for a task, and return its PNG files; raise TaskNotCompletedError if it has none."""
    return (yield from _pictures((yield from wait(task_id))))


def generate(
    prompt: str, *, on_progress: OnProgress | None = None, **options: Any
) -> Plan[list[bytes]]:
    """Submit a task, wait for it, and return its PNG files."""
    accepted = yield from submit(prompt, **options)
    return (yield from _pictures((yield from wait(accepted.task_id, on_progress))))


def _pictures(ended: TaskStatus) -> Plan[list[bytes]]:
    if ended.state is not TaskState.COMPLETED:
        raise TaskNotCompletedError(ended)
    files = []
    for index in range(len(ended.seeds)):
        call = Call("GET", f"download/{ended.task_id}", None, {"image_index": index})
        files.append((yield from ask(call)))
    return files


def cancel(task_id: str) -> Plan[TaskStatus]:
    """Cancel a task; raise ServerError if it has ended otherwise."""
    return TaskStatus.of((yield from ask(Call("POST", f"tasks/{task_id}/cancel"))))


def retry(task_id: str) -> Plan[TaskStatus]:
    """Ask once more for what a failed or cancelled task was to paint, as a new task."""
    headers = {"Idempotency-Key": str(uuid4())}
    again = yield from ask(Call("POST", f"tasks/{task_id}/retry", None, {}, headers))
    return (yield from status(again["task_id"]))


def delete(task_id: str) -> Plan[None]:
    """Delete a task with its pictures; one that has not ended is cancelled first."""
    yield from ask(Call("DELETE", f"tasks/{task_id}"))


def health() -> Plan[dict[str, Any]]:
    """Say what is served, on what, and how busy it is."""
    found: dict[str, Any] = yield from ask(Call("GET", "health"))
    return found


def groups() -> Plan[list[dict[str, Any]]]:
    """List the worker groups of all machines, and what each has on hand."""
    found = yield from ask(Call("GET", "groups"))
    return list(found["groups"])


def tasks(state: TaskState | None = None, prompt: str | None = None) -> Series:
    """Yield tasks, the latest first: all, or those in a state, or with words in their prompts."""
    query = {"status": state, "prompt": prompt, "limit": 100}
    query = {name: value for name, value in query.items() if value is not None}
    while True:
        page = yield from ask(Call("GET", "tasks", None, query))
        for each in page["tasks"]:
            yield Item(TaskStatus.of(each))
        if page["next_cursor"] is None:
            return
        query["cursor"] = page["next_cursor"]
