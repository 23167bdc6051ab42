"""Entry of a rank: find the supervisor, say hello, work, and never outlive it."""

import os

from hidream_server.ipc import CONTROL_ADDRESS, CONTROL_TOKEN
from hidream_server.ipc.channel import RankChannel
from hidream_server.ipc.lifetime import die_with_parent
from hidream_server.ipc.messages import Hello


def main() -> None:
    die_with_parent()
    rank = int(os.environ["RANK"])
    host, _, port = os.environ[CONTROL_ADDRESS].rpartition(":")
    channel = RankChannel.connect(host, int(port))
    channel.send(Hello(token=os.environ[CONTROL_TOKEN], rank=rank))
    # Torch takes seconds to import; the supervisor should know us before.
    from hidream_server.worker.worker import Worker

    Worker(channel, rank).run()


if __name__ == "__main__":
    main()
