"""What a rank says of its use: what changed, and each look-up once."""

from hidream_server.ipc.messages import RankUsage
from hidream_server.worker.usage import UsageReports


class Channel:
    def __init__(self) -> None:
        self.sent: list[RankUsage] = []

    def send(self, event: RankUsage) -> None:
        self.sent.append(event)


class Runner:
    """As it is after a warm-up."""

    prompt_lookups = (8, 7)
    peak = 1000

    def peak_memory_bytes(self) -> int:
        return self.peak


def said(prompts: int, cached: int, peak: int = 1000) -> RankUsage:
    return RankUsage(rank=3, peak_memory_bytes=peak, prompts=prompts, prompts_cached=cached)


def test_look_ups_of_the_warm_up_do_not_count_and_others_count_once():
    channel, runner = Channel(), Runner()
    reports = UsageReports(channel, 3, runner)
    reports.report()
    runner.prompt_lookups = (10, 8)
    reports.report()
    runner.prompt_lookups = (11, 9)
    reports.report()
    assert channel.sent == [said(0, 0), said(2, 1), said(1, 1)]


def test_nothing_is_said_where_nothing_is_new():
    channel, runner = Channel(), Runner()
    reports = UsageReports(channel, 3, runner)
    for _ in range(3):
        reports.report()
    assert channel.sent == [said(0, 0)]
    runner.peak = 2000
    reports.report()
    assert channel.sent[1:] == [said(0, 0, peak=2000)]


def test_a_rank_whose_supervisor_has_gone_stops_saying_anything():
    class Gone:
        def send(self, event: RankUsage) -> None:
            raise BrokenPipeError

    UsageReports(Gone(), 0, Runner())._run()
