"""Arms in turn, and a budget that is kept."""

from benchmarks.full_size.timing import Budget, in_turn
from tests.support import Clock


def test_the_order_turns_around_with_every_round() -> None:
    order: list[str] = []
    arms = {name: lambda name=name: order.append(name) or [1.0] for name in "abc"}
    found = in_turn(arms, 3, Budget(1.0, Clock()))
    assert "".join(order) == "abccbaabc"
    assert found == {name: [[1.0]] * 3 for name in "abc"}


def test_no_round_is_begun_for_which_there_is_no_time() -> None:
    clock = Clock()
    budget = Budget(25.0, clock)

    def run() -> list[float]:
        clock.now += 10.0
        return [10.0]

    # One round takes 10 s; after two of them 5 s are left.
    assert in_turn({"arm": run}, 5, budget) == {"arm": [[10.0], [10.0]]}
    assert budget.left == 5.0


def test_the_first_round_is_run_anyway() -> None:
    assert in_turn({"arm": lambda: [1.0]}, 2, Budget(-1.0, Clock())) == {"arm": [[1.0]]}
