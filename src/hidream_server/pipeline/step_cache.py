"""Which steps of an image need no forward, and what stands for its output: lossy.

Knows what the network was given and what it said at the steps of one image; knows nothing of
samplers, other images or ranks.
"""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

#: This part of the steps, at the beginning, and the last one are always computed. The first ones
#: decide what is in the picture: where they are reused it may become another one.
_FIRST_PART = 0.3


class StepCache:
    """What is remembered of an image's steps, so that the forwards of others can be left out.

    After two computed steps i and j outputs are taken to change k = |v_i - v_j| / |x_i - x_j| times
    as much as latents do. Each step adds k |x_t - x_t-1| / |v_t-1| to what is expected to have
    changed since step i was computed; while that stays below a tolerance, step t is not computed,
    and its output is taken to be x_t + (v_i - x_i). Norms are mean absolute values, of the positive
    row; both rows go the same way.

    Source: Zhou et al., "Less is Enough: Training-Free Video Diffusion Acceleration via
    Runtime-Adaptive Caching", https://arxiv.org/abs/2507.02860 (EasyCache).
    """

    def __init__(self, tolerance: float, steps: int) -> None:
        """The image has `steps`; `tolerance` is a relative change of the output, 0 allows none."""
        self._tolerance = tolerance
        self._may_be_reused = range(math.ceil(_FIRST_PART * steps), steps - 1)
        #: Of the step that was computed last.
        self._latents: Tensor | None = None
        self._velocities: Tensor | None = None
        #: k; unknown before the second computed step.
        self._rate = math.nan
        self._change = 0.0
        self._next = 0
        #: So many steps were not computed.
        self.reused = 0

    @property
    def reuses_next(self) -> bool:
        """The next step is not to be computed."""
        # What is not a number is below nothing.
        return self._change < self._tolerance and self._next in self._may_be_reused

    def computed(self, latents: Tensor, velocities: Tensor) -> None:
        """Remember a step: what the network made of latents [1, C, H, W] is [R, C, H, W]."""
        if self._velocities is not None and self._latents is not None:
            changed = velocities[-1:] - self._velocities[-1:]
            self._rate = _ratio(changed, latents - self._latents)
        self._latents, self._velocities, self._change = latents, velocities, 0.0

    def reuse(self, latents: Tensor) -> Tensor:
        """Return what stands for the network's output at these latents, [R, C, H, W]."""
        assert self._velocities is not None
        self.reused += 1
        return latents + (self._velocities - self._latents)

    def moved(self, before: Tensor, after: Tensor, velocities: Tensor, step: int) -> None:
        """The next step starts at `after`, where these velocities have led from `before`."""
        self._next = step
        if step in self._may_be_reused:
            self._change += self._rate * _ratio(after - before, velocities[-1:])

    def state(self) -> dict[str, Any]:
        """Return all that is remembered; none of the tensors will be changed in place."""
        return {name.removeprefix("_"): getattr(self, name) for name in _REMEMBERED}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Remember what `state` returned for an image of as many steps; raise ValueError else."""
        if missing := [name for name in _REMEMBERED if name.removeprefix("_") not in state]:
            raise ValueError(f"it does not say {missing[0].removeprefix('_')}")
        for name in _REMEMBERED:
            setattr(self, name, state[name.removeprefix("_")])


_REMEMBERED = ("_latents", "_velocities", "_rate", "_change", "_next", "reused")


def _ratio(one: Tensor, other: Tensor) -> float:
    """Of their sizes; infinite or no number where the other is zero."""
    return (one.abs().mean() / other.abs().mean()).item()
