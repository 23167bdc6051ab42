"""Warm servers that several tests use one after the other, each as the one before has left it."""

from collections.abc import Callable

from tests.e2e.server import Server

#: What /health says of a server that got over whatever was done to it, and has nothing to do.
WELL = {"status": "healthy", "pipeline_ready": True, "queue_length": 0, "active_tasks": 0}


class WarmServers:
    """At most one server for each set of options; another one where it is not well."""

    def __init__(self, new_server: Callable[..., Server]) -> None:
        self._new_server = new_server
        self._servers: dict[tuple[str, ...], Server] = {}

    def get(self, *options: str) -> Server:
        """Return a warm, idle server, on whose console nothing stands yet."""
        server = self._servers.get(options)
        if server is None or not _is_well(server):
            server = self._servers[options] = self._new_server(*options)
            server.start()
            server.wait_for("/readyz")
        server.turn_page()
        return server

    def stop(self) -> None:
        """Stop those that run; all must end well, whatever they have been through."""
        running = [server for server in self._servers.values() if server.runs]
        assert [server.stop() for server in running] == [0] * len(running)


def _is_well(server: Server) -> bool:
    return server.runs and server.client.get("/health").json().items() >= WELL.items()
