"""Sends a rank's log lines to the supervisor, which keeps the one log."""

import logging

from hidream_server.ipc.channel import RankChannel
from hidream_server.ipc.messages import LogLine
from hidream_server.logs import current_task


class ChannelHandler(logging.Handler):
    """A log handler whose lines travel over the control socket."""

    def __init__(self, channel: RankChannel, rank: int) -> None:
        super().__init__()
        self._channel = channel
        self._rank = rank

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = LogLine(
                rank=self._rank,
                level=record.levelno,
                logger=record.name,
                text=self.format(record),
                task_id=current_task(),
            )
            self._channel.send(line)
        except Exception:
            # As every handler of logging does: what cannot be logged must not stop the work.
            self.handleError(record)


def report_logs(channel: RankChannel, rank: int, level: str) -> None:
    """Send this process's logs to the supervisor from now on."""
    logging.getLogger().addHandler(ChannelHandler(channel, rank))
    logging.getLogger("hidream_server").setLevel(level)
