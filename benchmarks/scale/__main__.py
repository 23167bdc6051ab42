"""What one PostgreSQL carries; the parts are

verbs: what each thing costs by itself; claims: groups that only ask; queue: long queues;
crowd: who asks at a submission; streams: servers that follow; compute: real workers;
simulate: what the costs of `verbs` mean for many cards.

    python -m benchmarks.scale --part claims --json claims.json
"""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks.scale.claims import claims
from benchmarks.scale.compute import compute
from benchmarks.scale.crowd import crowd
from benchmarks.scale.queue_lengths import queue_lengths
from benchmarks.scale.simulate import simulate
from benchmarks.scale.streams import streams
from benchmarks.scale.tables import Report, show, write
from benchmarks.scale.verbs import costs, verbs
from tests.postgresql import Postgresql

Part = Callable[[Postgresql], list[Report]]


def parts(options: argparse.Namespace) -> Mapping[str, Part]:
    """Return what can be measured, with these options."""
    rounds, seconds, calls = options.rounds, options.seconds, options.calls
    shapes = [(queued, running) for queued in options.queued for running in options.running]
    return {
        "verbs": lambda server: verbs(server, calls),
        "claims": lambda server: claims(server, options.groups, rounds, seconds, 100, beats=2),
        "queue": lambda server: queue_lengths(server, shapes, calls),
        "crowd": lambda server: crowd(server, options.crowd, rounds, seconds, work_s=2.0),
        "streams": lambda server: streams(server, 4, 8, rounds, seconds, beats=2),
        "compute": lambda server: compute(server, options.workers, rounds, options.tasks),
        "simulate": lambda server: simulate(costs(server, calls, options.cores), options.cards),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    several = partial(parser.add_argument, type=int, nargs="+")
    parser.add_argument("--part", choices=list(parts(_NOTHING)), required=True)
    parser.add_argument("--rounds", type=int, default=3, help="of what is compared, in turn")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--calls", type=int, default=200, help="of each verb")
    several("--groups", default=[1, 2, 4, 8, 16, 32], help="that only ask")
    several("--crowd", default=[8, 32, 64], help="groups that hear of each submission")
    several("--queued", default=[1000, 10_000, 100_000])
    several("--running", default=[0, 1000])
    several("--workers", default=[1, 2, 4], help="processes that paint")
    parser.add_argument("--tasks", type=int, default=40, help="that they paint")
    parser.add_argument("--cores", type=int, default=16, help="of the simulated PostgreSQL")
    several("--cards", default=[100, 1000, 10_000], help="that are simulated")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with Postgresql() as server:
        reports = parts(options)[options.part](server)
    for report in reports:
        show(report)
    if options.json is not None:
        write(reports, options.json)


#: Enough to list the parts by their names.
_NOTHING = argparse.Namespace(rounds=0, seconds=0.0, calls=0, queued=[], running=[])

if __name__ == "__main__":
    main()
