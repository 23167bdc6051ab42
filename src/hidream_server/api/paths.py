"""Paths as routes see them, wherever a proxy has put this server."""

from starlette.types import Scope


def route_path(scope: Scope) -> str:
    """Return the path of a request without the root path, whether or not it was left in it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root and path.startswith(root + "/") else path
