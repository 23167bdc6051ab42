"""Lists as OpenAI's clients turn their pages: each page begins after the last id of another."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Query

After = Annotated[str | None, Query(description="The last id of the page before.")]
Order = Annotated[Literal["asc", "desc"], Query(description="The oldest or the newest first.")]


def listed(items: Sequence[dict[str, Any]], more: bool) -> dict[str, Any]:
    """Return a page."""
    return {
        "object": "list",
        "data": items,
        "has_more": more,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
    }
