"""Entry of a rank: find the supervisor, say hello, work, and never outlive it."""

import gc
import os
import sys
import traceback

from hidream_server.ipc import CONTROL_ADDRESS, CONTROL_TOKEN
from hidream_server.ipc.channel import RankChannel
from hidream_server.ipc.lifetime import die_with_parent
from hidream_server.ipc.messages import Hello


def main() -> None:
    die_with_parent()
    rank = int(os.environ["RANK"])
    address, token = _find_supervisor()
    host, _, port = address.rpartition(":")
    channel = RankChannel.connect(host, int(port))
    channel.send(Hello(token=token, rank=rank))
    # Torch takes seconds to import; the supervisor should know us before. Nothing imported is ever
    # garbage: to look through it again and again takes a third of that time, and some of any later.
    gc.disable()
    from hidream_server.worker.worker import Worker

    gc.freeze()
    gc.enable()
    if rank == 0 and int(os.environ.get("GROUP_WORLD_SIZE", 1)) > 1:
        from hidream_server.worker.meeting import publish

        publish(address, token)
    try:
        Worker(channel, rank).run()
    except BaseException:
        # Whatever other threads are waiting for: the supervisor must hear of the end at once.
        traceback.print_exc()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


def _find_supervisor() -> tuple[str, str]:
    """Return its address and the token; a rank that was not told asks one that was."""
    if CONTROL_ADDRESS in os.environ:
        return os.environ[CONTROL_ADDRESS], os.environ[CONTROL_TOKEN]
    from hidream_server.worker.meeting import find

    return find()


if __name__ == "__main__":
    main()
