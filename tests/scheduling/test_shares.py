"""Who was served how much, as far as it matters still."""

from hidream_server.scheduling.shares import FairShares

A_AND_B = {"a": 0.0, "b": 0.0}


def test_all_begin_level_and_are_charged_by_the_second():
    shares = FairShares()
    assert shares.start_tags(A_AND_B) == {"a": 0.0, "b": 0.0}
    shares.charge("a", 3.0)
    assert shares.start_tags(A_AND_B) == {"a": 3.0, "b": 0.0}


def test_a_head_start_lets_a_client_run_ahead():
    assert FairShares().start_tags({"a": 600.0, "b": 0.0}) == {"a": -600.0, "b": 0.0}


def test_who_was_idle_has_saved_up_nothing():
    shares = FairShares()
    shares.start_tags({"a": 0.0})
    shares.charge("a", 50.0)
    assert shares.start_tags(A_AND_B) == {"a": 50.0, "b": 50.0}


def test_a_newcomer_is_level_with_the_least_served():
    shares = FairShares()
    shares.start_tags(A_AND_B)
    shares.charge("a", 50.0)
    shares.charge("b", 40.0)
    assert shares.start_tags({**A_AND_B, "c": 0.0})["c"] == 40.0


def test_who_ran_ahead_is_as_far_ahead_after_a_moment_away():
    shares = FairShares()
    shares.start_tags(A_AND_B)
    shares.charge("a", 50.0)
    shares.start_tags({"b": 0.0})
    assert shares.start_tags(A_AND_B)["a"] == 50.0


def test_who_ran_ahead_is_forgotten_once_all_others_have_caught_up():
    shares = FairShares()
    shares.start_tags(A_AND_B)
    shares.charge("a", 50.0)
    shares.start_tags({"b": 0.0})
    shares.charge("b", 60.0)
    assert shares.start_tags(A_AND_B)["a"] == 60.0


def test_when_all_have_gone_the_account_is_new():
    shares = FairShares()
    shares.start_tags(A_AND_B)
    shares.charge("a", 50.0)
    shares.start_tags({})
    assert shares.start_tags(A_AND_B) == {"a": 0.0, "b": 0.0}


def test_a_waiting_client_of_low_priority_lets_no_newcomer_pass_others():
    shares = FairShares()
    low = {"low": -3600.0, "normal": 0.0}
    shares.start_tags(low)
    shares.charge("normal", 1000.0)
    tags = shares.start_tags({**low, "new": 0.0, "high": 600.0, "low too": -3600.0})
    assert tags["new"] == tags["normal"]
    assert tags["high"] == tags["normal"] - 600
    assert tags["low too"] == tags["low"]


def test_a_newcomer_passes_one_of_low_priority_and_waits_for_one_of_high():
    for head_start_s in (-3600.0, 600.0):
        shares = FairShares()
        shares.start_tags({"old": head_start_s})
        shares.charge("old", 1000.0)
        tags = shares.start_tags({"old": head_start_s, "new": 0.0})
        assert tags["new"] - tags["old"] == head_start_s


def test_asking_again_changes_nothing_and_a_copy_goes_its_own_way():
    shares = FairShares()
    tags = shares.start_tags(A_AND_B)
    twin = shares.copy()
    twin.charge("a", 5.0)
    twin.start_tags({"b": 0.0})
    assert shares.start_tags(A_AND_B) == tags
