"""Machines that have a group together: what is said of them, and which layouts they take."""

import pytest

from hidream_server.engine.launchers.nodes import Nodes, read_nodes
from hidream_server.errors import ConfigurationError, NodesError
from hidream_server.layouts.layout import Layout
from hidream_server.settings import load_settings

TWO = {"nnodes": 2, "rdzv_endpoint": "10.0.0.1:29400"}


def test_one_machine_is_the_rule():
    one = read_nodes(load_settings({}, environ={}), 8)
    assert (one.several, one.all_devices) == (False, 8)
    for ranks in (1, 8, 9):
        assert (one.spans(ranks), one.here(ranks)) == (False, ranks)
        assert one.control_host(ranks) == "127.0.0.1"
        assert one.allows(Layout(tp=ranks))


@pytest.mark.parametrize(
    ("endpoint", "host", "port"),
    [("10.0.0.1:29400", "10.0.0.1", 29400), ("first:1", "first", 1), ("[fd00::1]:9", "fd00::1", 9)],
)
def test_machines_meet_at_the_first(endpoint, host, port):
    settings = load_settings(TWO | {"rdzv_endpoint": endpoint, "node_rank": 1}, environ={})
    assert read_nodes(settings, 8) == Nodes(count=2, rank=1, host=host, port=port, devices=8)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"nnodes": 2}, "--rdzv-endpoint"),
        ({"node_rank": 1}, "--nnodes"),
        ({"rdzv_endpoint": "first:1"}, "--nnodes"),
        (TWO | {"rdzv_endpoint": "first:0"}, "up to 65535"),
        (TWO | {"rdzv_endpoint": "first:65536"}, "up to 65535"),
        (TWO | {"node_rank": 2}, "the last is 1"),
        (TWO | {"replicas": 2}, "--replicas"),
        (TWO | {"replicas": 0}, "--replicas"),
        (TWO | {"executor": "project"}, "--executor"),
    ],
)
def test_what_does_not_go_together_is_refused(flags, words):
    with pytest.raises(NodesError, match=words):
        read_nodes(load_settings(flags, environ={}), 8)


@pytest.mark.parametrize("endpoint", ["first", "first:", ":1", "first:port", "fd00::1:9", "a b:1x"])
def test_an_endpoint_has_a_host_and_a_port(endpoint):
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        load_settings(TWO | {"rdzv_endpoint": endpoint}, environ={})


@pytest.mark.parametrize(
    ("layout", "allowed", "here", "host"),
    [
        (Layout(), True, 1, "127.0.0.1"),
        (Layout(tp=4), True, 4, "127.0.0.1"),
        (Layout(cfg=2, tp=4), True, 4, "10.0.0.1"),
        (Layout(tp=5), False, 4, "10.0.0.1"),
    ],
)
def test_a_layout_takes_all_machines_or_the_first(layout, allowed, here, host):
    nodes = Nodes(count=2, rank=0, host="10.0.0.1", port=29400, devices=4)
    assert nodes.allows(layout) is allowed
    assert nodes.here(layout.ranks) == here
    assert nodes.control_host(layout.ranks) == host
