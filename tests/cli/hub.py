"""A hub on loopback: what huggingface_hub asks of the real one, answered from folders."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """Repositories by their names; what was asked for; and how it misbehaves."""

    repositories: dict[str, Path]
    #: Who may have them: everybody, or who sends this token.
    token: str | None = None
    #: Break the connection in the middle of this file, once.
    breaks_once: str | None = None
    #: Every file that was sent, with its Range header.
    sent: list[tuple[str, str | None]] = field(default_factory=list)

    @property
    def app(self) -> Starlette:
        routes = [
            Route("/api/models/{owner}/{name}/revision/{revision}", self._about),
            Route("/api/models/{owner}/{name}/tree/{revision}", self._tree),
            Route("/{owner}/{name}/resolve/{revision}/{path:path}", self._file),
        ]
        return Starlette(routes=routes)

    def _folder(self, request: Request) -> Path | Response:
        name = "{owner}/{name}".format(**request.path_params)
        if name not in self.repositories:
            return Response(status_code=404, headers={"X-Error-Code": "RepoNotFound"})
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return Response(status_code=401, headers={"X-Error-Code": "GatedRepo"})
        return self.repositories[name]

    async def _about(self, request: Request) -> Response:
        folder = self._folder(request)
        if isinstance(folder, Response):
            return folder
        name = "{owner}/{name}".format(**request.path_params)
        return JSONResponse({"id": name, "sha": COMMIT, "siblings": []})

    async def _tree(self, request: Request) -> Response:
        folder = self._folder(request)
        if isinstance(folder, Response):
            return folder
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return JSONResponse(
            [
                {
                    "type": "file",
                    "path": str(path.relative_to(folder)),
                    "size": path.stat().st_size,
                    "oid": _etag(path),
                }
                for path in files
            ]
        )

    async def _file(self, request: Request) -> Response:
        folder = self._folder(request)
        if isinstance(folder, Response):
            return folder
        name = request.path_params["path"]
        path = folder / name
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{_etag(path)}"'}
        if request.method == "GET":
            self.sent.append((name, request.headers.get("Range")))
            if self.breaks_once == name:
                self.breaks_once = None
                return _Broken(path, headers=headers)
        return FileResponse(path, headers=headers)


class _Broken(FileResponse):
    """Sends the first part of a file, and then nothing more."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_once(message: Message) -> None:
            if message["type"] == "http.response.body":
                await send({**message, "body": message["body"][:1000], "more_body": True})
                raise ConnectionResetError
            await send(message)

        await super().__call__(scope, receive, send_once)


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
