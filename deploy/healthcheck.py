"""Says whether the server in this container lives: exits with 0 if /livez answers 200.

The slim images have no curl. No proxy of the environment is asked, unlike with urllib.
"""

import os
import ssl
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection

_TIMEOUT_S = 4


def connect() -> HTTPConnection:
    """Connect to this container's own port; its certificate names other hosts."""
    port = int(os.environ.get("HIDREAM_PORT") or 8088)
    if os.environ.get("HIDREAM_SSL_CERTFILE"):
        trusting = ssl._create_unverified_context()
        return HTTPSConnection("127.0.0.1", port, timeout=_TIMEOUT_S, context=trusting)
    return HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)


def main() -> int:
    connection = connect()
    try:
        connection.request("GET", "/livez")
        return 0 if connection.getresponse().status == 200 else 1
    except (OSError, HTTPException) as error:
        print(f"/livez did not answer: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
