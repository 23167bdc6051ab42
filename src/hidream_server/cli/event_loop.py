"""The loop that the server runs on, and how little the garbage collector holds it up.

Knows nothing of what runs on it.
"""

import gc
from collections.abc import Coroutine
from typing import Any

import uvloop


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` to its end."""
    uvloop.run(main)


def spare_collector() -> None:
    """Have the garbage collector pass over all that there is now.

    To be called once everything is imported and put together, which stays until the end. To look
    through it again and again would stop the loop for a tenth of a second each time.
    """
    gc.collect()
    gc.freeze()
