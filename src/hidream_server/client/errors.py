"""What can go wrong for a client, in the one tree of errors."""

from collections.abc import Sequence
from typing import Any

from hidream_server.client.status import TaskStatus
from hidream_server.errors import HiDreamError


class ClientError(HiDreamError):
    """The server could not be asked, or did not do what it was asked for."""


class UnreachableError(ClientError):
    """The server does not answer."""


class ServerError(ClientError):
    """The server refused a request."""

    def __init__(
        self,
        status_code: int,
        server_code: str,
        message: str,
        problems: Sequence[dict[str, Any]] = (),
    ) -> None:
        """`server_code` is the name of the error in the server's table, like queue_full."""
        super().__init__(message)
        self.status_code = status_code
        self.server_code = server_code
        #: Fields that are not acceptable: field, value, allowed.
        self.problems = problems


class TaskNotCompletedError(ClientError):
    """A task came to no picture."""

    def __init__(self, status: TaskStatus) -> None:
        why = f": {status.error}" if status.error else "."
        super().__init__(f"Task {status.task_id} is {status.state}{why}")
        self.status = status
