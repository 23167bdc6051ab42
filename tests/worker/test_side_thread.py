"""Work beside the loop is done in order, by a thread that stands back."""

import os
import threading

from hidream_server.worker.side_thread import side_thread


def test_it_yields_to_the_thread_that_made_it():
    with side_thread("beside") as thread:
        beside = thread.submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        assert beside.result() > os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_what_it_is_given_is_done_in_order():
    done: list[int] = []
    with side_thread("beside") as thread:
        for number in range(100):
            thread.submit(done.append, number)
    assert done == list(range(100))
