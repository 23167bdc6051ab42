"""Talks to a HiDream Server: `Client` for programs that wait, `AsyncClient` for those that await.

from hidream_server.client import Client

with Client("http://localhost:8088") as client:
    client.generate("a red circle").save("circle.png")
"""

from hidream_server.client.clients import AsyncClient, Client
from hidream_server.client.errors import (
    ClientError,
    ServerError,
    TaskNotCompletedError,
    UnreachableError,
)
from hidream_server.client.status import TaskStatus

__all__ = [
    "AsyncClient",
    "Client",
    "ClientError",
    "ServerError",
    "TaskNotCompletedError",
    "TaskStatus",
    "UnreachableError",
]
