"""The page HiDream Studio, and all that it is made of. It uses the API like any other client."""

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

import hidream_server

router = APIRouter(include_in_schema=False)

_FOLDER = Path(hidream_server.__file__).parent / "studio"
#: Asked for again each time, and answered briefly if nothing is new: the page fits its server.
_HEADERS = {"Cache-Control": "no-cache"}


class Files(StaticFiles):
    """The modules, styles and libraries of the page."""

    def __init__(self) -> None:
        super().__init__(directory=_FOLDER)

    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        answer.headers.update(_HEADERS)
        return answer


@router.get("/studio")
async def studio() -> Response:
    """Return the page."""
    return page()


@router.get("/studio/")
async def with_slash() -> Response:
    """Send who adds a slash to the page: from there its parts would have other addresses."""
    return RedirectResponse("../studio")


def page() -> Response:
    return FileResponse(_FOLDER / "index.html", headers={**_HEADERS, "Vary": "Accept"})


def wants_page(request: Request) -> bool:
    """Tell whether who asks would rather have a page than data: browsers say so, clients do not."""
    liked = dict(_media_range(part) for part in request.headers.get("accept", "").split(","))
    html = liked.get("text/html", 0.0)
    return html > 0 and html >= liked.get("application/json", 0.0)


def _media_range(text: str) -> tuple[str, float]:
    """Return a media type and how much it is liked, 0 to 1."""
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = next((p.removeprefix("q=") for p in parameters if p.startswith("q=")), "1")
    try:
        return name, float(quality)
    except ValueError:
        return name, 0.0
