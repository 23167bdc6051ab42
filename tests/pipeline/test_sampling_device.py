"""Where a sampler's steps are taken: on the device if that leads where the CPU leads."""

import logging

import pytest
import torch
from diffusers import FlowMatchLCMScheduler, UniPCMultistepScheduler

from hidream_server.demo import DEMO_MODEL_PATH
from hidream_server.pipeline.sampling_device import sampling_device

CPU, META = torch.device("cpu"), torch.device("meta")


def new_unipc() -> UniPCMultistepScheduler:
    config = UniPCMultistepScheduler.load_config(DEMO_MODEL_PATH / "scheduler")
    return UniPCMultistepScheduler.from_config(config)


class Wrong(FlowMatchLCMScheduler):
    """Each of its walks leads elsewhere."""

    made = 0

    def __init__(self, **config: object) -> None:
        super().__init__(**config)
        Wrong.made += 1
        self._off = float(Wrong.made)

    def step(self, *arguments: object, generator: torch.Generator, **options: object) -> tuple:
        [latents] = super().step(*arguments, generator=generator, **options)
        return (latents * self._off,)


@pytest.mark.parametrize("new_scheduler", [new_unipc, FlowMatchLCMScheduler])
def test_a_device_that_leads_where_the_cpu_leads_samples_itself(new_scheduler):
    one = torch.device("cpu", 0)
    assert sampling_device(new_scheduler, one, 256) is one


@pytest.mark.parametrize("new_scheduler", [new_unipc, FlowMatchLCMScheduler])
def test_a_device_that_cannot_leaves_it_to_the_cpu(new_scheduler, caplog):
    with caplog.at_level(logging.INFO):
        assert sampling_device(new_scheduler, META, 256) == CPU
    assert "stays on the CPU" in caplog.text


def test_a_device_that_solves_systems_wrongly_is_not_believed(monkeypatch):
    solve, solved = torch.linalg.solve, []

    def solve_wrongly(*system: torch.Tensor) -> torch.Tensor:
        solved.append(system)
        # The first walk is the CPU's.
        return solve(*system) * (1.0 if len(solved) <= expected else 1.1)

    monkeypatch.setattr(torch.linalg, "solve", solve_wrongly)
    expected = 1000
    assert sampling_device(new_unipc, torch.device("cpu", 0), 256).index == 0
    expected = len(solved) // 2
    solved.clear()
    assert expected > 0
    assert sampling_device(new_unipc, torch.device("cpu", 0), 256).index is None


def test_a_device_that_computes_something_else_is_not_believed(caplog):
    assert sampling_device(Wrong, torch.device("cpu", 0), 256).index is None
    assert "something else" in caplog.text
