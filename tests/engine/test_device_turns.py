"""Fewer devices than there are: others each time."""

from hidream_server.engine.device_turns import DeviceTurns


def test_all_devices_are_taken_in_their_order_every_time():
    turns = DeviceTurns((4, 5, 6, 7))
    assert [turns.take(4) for _ in range(3)] == [(4, 5, 6, 7)] * 3


def test_fewer_devices_are_others_each_time():
    turns = DeviceTurns((4, 5, 6, 7))
    assert [turns.take(1) for _ in range(5)] == [(4,), (5,), (6,), (7,), (4,)]
    turns = DeviceTurns((4, 5, 6, 7))
    assert [turns.take(2) for _ in range(3)] == [(4, 5), (6, 7), (4, 5)]


def test_a_device_that_is_left_over_gets_its_turn():
    turns = DeviceTurns((0, 1, 2))
    assert [turns.take(2) for _ in range(3)] == [(0, 1), (0, 2), (1, 2)]
