"""Opens the socket that clients connect to."""

import errno
import socket

from hidream_server.errors import ConfigurationError, PortTakenError

_BACKLOG = 2048
_LAST_PORT = 65535


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; raise PortTakenError, naming the way out, if it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio lets answers leave at once (TCP_NODELAY) only where the protocol is said to be TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise ConfigurationError(
                f"Port {port} on {host} cannot be opened: {error.strerror}."
            ) from error
        other = port + 1 if port < _LAST_PORT else port - 1
        raise PortTakenError(
            f"Port {port} on {host} is in use: choose another, like --port {other}."
        ) from error
    return listener
