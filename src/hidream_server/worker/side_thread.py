"""A thread for work beside the step loop, which is not to be held up by it."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

#: Linux gives such a thread a core that nobody else wants; the step loop's thread wants one always.
_NICENESS = 10


def side_thread(name: str) -> ThreadPoolExecutor:
    """Return an executor of one thread: what it is given is done in order."""
    return ThreadPoolExecutor(1, thread_name_prefix=name, initializer=_stand_back)


def _stand_back() -> None:
    # On Linux this is of the thread, not of the process.
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
