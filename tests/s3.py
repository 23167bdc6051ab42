"""An S3 server of its own on the loopback; it can be away for a while and come back with all."""

import uuid
from collections.abc import Mapping
from types import TracebackType

import httpx2
from moto.server import ThreadedMotoServer

from tests.e2e.server import free_port


class S3:
    """Runs from entry to exit; what it holds is in this process, so it outlives its socket."""

    def __init__(self) -> None:
        self._port = free_port()
        self._url = f"http://127.0.0.1:{self._port}"
        self._server: ThreadedMotoServer | None = None

    def __enter__(self) -> "S3":
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    @property
    def environment(self) -> Mapping[str, str]:
        """What tells a client where it is, and who asks."""
        return {
            "AWS_ENDPOINT_URL": self._url,
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "guess",
            "AWS_REGION": "us-east-1",
        }

    def start(self) -> None:
        if self._server is None:
            self._server = ThreadedMotoServer("127.0.0.1", self._port, verbose=False)
            self._server.start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def new_bucket(self) -> str:
        """Make an empty bucket; return its address."""
        name = f"b{uuid.uuid4().hex}"
        httpx2.put(f"{self._url}/{name}").raise_for_status()
        return f"s3://{name}"
