"""Options that several commands have and that are none of the server's."""

from typing import Annotated

import typer

from hidream_server.settings import Settings

#: Where a running server is, and who asks it.
Server = Annotated[
    str, typer.Option("--server", envvar="HIDREAM_SERVER", help="address of a running server")
]
Key = Annotated[
    str | None, typer.Option("--key", envvar="HIDREAM_API_KEY", help="API key, if it takes one")
]
Json = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
HERE = f"http://localhost:{Settings().port}"
