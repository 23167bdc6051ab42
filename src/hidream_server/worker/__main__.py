"""Entry of a rank: find the supervisor, say hello, work, and never outlive it."""

import ctypes
import os
import signal

from hidream_server.ipc import CONTROL_ADDRESS, CONTROL_TOKEN
from hidream_server.ipc.channel import RankChannel
from hidream_server.ipc.messages import Hello

_PR_SET_PDEATHSIG = 1


def main() -> None:
    _die_with_parent()
    rank = int(os.environ["RANK"])
    host, _, port = os.environ[CONTROL_ADDRESS].rpartition(":")
    channel = RankChannel.connect(host, int(port))
    channel.send(Hello(token=os.environ[CONTROL_TOKEN], rank=rank))
    # Torch takes seconds to import; the supervisor should know us before.
    from hidream_server.worker.worker import Worker

    Worker(channel, rank).run()


def _die_with_parent() -> None:
    """End with the launcher even if it is killed: ranks are in sessions of their own."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
