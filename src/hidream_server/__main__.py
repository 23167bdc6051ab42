"""`python -m hidream_server` is the `hidream` command."""

from hidream_server.cli.main import run

run()
