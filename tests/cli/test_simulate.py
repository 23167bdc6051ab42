"""The command that compares policies: one table, the same for the same seed."""

import pytest
from typer.testing import CliRunner

from hidream_server.cli.main import app
from hidream_server.cli.simulate import parse_mix
from hidream_server.scheduling.workload import Kind


def simulate(*arguments: str):
    return CliRunner().invoke(app, ["simulate", "--tasks", "40", *arguments])


def test_one_line_a_policy_and_the_same_again():
    result = simulate("--seed", "3", "--clients", "2")
    assert result.exit_code == 0
    for policy in ("first come", "shortest first", "ours, unshared", "ours "):
        assert policy in result.output
    assert simulate("--seed", "3", "--clients", "2").output == result.output
    assert simulate("--seed", "4", "--clients", "2").output != result.output


def test_a_mix_is_read_as_it_is_documented():
    assert parse_mix("512x512/16, 1024x768/50g*4") == [
        Kind(512, 512, 16, guided=False),
        Kind(1024, 768, 50, guided=True, images=4),
    ]
    assert simulate("--mix", "512x512/16").exit_code == 0


@pytest.mark.parametrize("mix", ["512/16", "512x512", "0x512/16", "512x512/0", "512x512/16,"])
def test_what_is_not_a_mix_is_wrong_usage(mix):
    result = simulate("--mix", mix)
    assert result.exit_code == 2
    assert "1024x768/50g*4" in result.output


@pytest.mark.parametrize("option", ["--load", "--tasks", "--clients"])
def test_nothing_cannot_be_simulated(option):
    assert simulate(option, "0").exit_code == 2
