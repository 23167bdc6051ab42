"""Pages of rows that have a client, a time and an id: each begins after the last id of another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, and_, or_, select


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which page is asked for."""

    count: int
    #: Whose rows; None: everybody's.
    client: str | None = None
    #: The id that the page before ended with; None of the first page.
    after: str | None = None
    oldest_first: bool = False


def rows_of(
    connection: Connection, query: Select[Any], table: Table, page: Page
) -> tuple[Sequence[Row[Any]], bool]:
    """Return the rows of a page of `query`, which selects from `table`; and whether more follow."""
    at, name = table.c.created_at, table.c.id
    if page.client is not None:
        query = query.where(table.c.client == page.client)
    if page.after is not None:
        then = select(at).where(name == page.after).scalar_subquery()
        if page.oldest_first:
            query = query.where(or_(at > then, and_(at == then, name > page.after)))
        else:
            query = query.where(or_(at < then, and_(at == then, name < page.after)))
    order = (at, name) if page.oldest_first else (at.desc(), name.desc())
    rows = connection.execute(query.order_by(*order).limit(page.count + 1)).all()
    return rows[: page.count], len(rows) > page.count
