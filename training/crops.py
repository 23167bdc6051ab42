"""Feeds the autoencoder: crops of painted pictures, mostly from where something happens."""

from __future__ import annotations

from random import Random

import numpy as np
import torch
from torch import Tensor

from . import settings
from .painter import paint
from .scene import draw_scene

_CELL = 32


class CropSource:
    """A pool of pictures of all sizes; every third batch replaces one of them by a new one."""

    def __init__(self, seed: int, pool: int = 120) -> None:
        self._rng = Random(seed)
        self._numbers = np.random.default_rng(seed)
        self._batches = 0
        self._pictures = [self._paint() for _ in range(pool)]

    def _paint(self) -> tuple[np.ndarray, np.ndarray]:
        height, width = self._rng.choice(settings.PICTURE_SIZES)
        scene = draw_scene(self._rng, objects=0.35)
        picture = paint(scene, height, width, self._numbers)
        return picture, _activity(picture)

    def batch(self, count: int, size: int) -> Tensor:
        """Return float crops [count, 3, size, size] from -1 to 1."""
        self._batches += 1
        if self._batches % 3 == 0:
            self._pictures[self._rng.randrange(len(self._pictures))] = self._paint()
        crops = np.stack([self._crop(size) for _ in range(count)])
        return torch.from_numpy(crops).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)

    def _crop(self, size: int) -> np.ndarray:
        picture, activity = self._rng.choice(self._pictures)
        busy = int(self._numbers.choice(activity.size, p=activity.reshape(-1)))
        row, column = divmod(busy, activity.shape[1])
        top = self._place(row, size, picture.shape[0])
        left = self._place(column, size, picture.shape[1])
        return picture[top : top + size, left : left + size]

    def _place(self, cell: int, size: int, side: int) -> int:
        start = cell * _CELL + _CELL // 2 - size // 2 + self._rng.randrange(-size // 3, size // 3)
        return min(max(start, 0), side - size)


def _activity(picture: np.ndarray) -> np.ndarray:
    """Return how likely each 32x32 cell is to be looked at: edges often, plain areas sometimes."""
    grey = picture.astype(np.float32).mean(-1)
    steps = np.zeros_like(grey)
    steps[:, 1:] += np.abs(np.diff(grey, axis=1))
    steps[1:] += np.abs(np.diff(grey, axis=0))
    rows, columns = grey.shape[0] // _CELL, grey.shape[1] // _CELL
    cells = steps.reshape(rows, _CELL, columns, _CELL).mean((1, 3))
    weights = np.sqrt(cells) + 0.15
    return weights / weights.sum()
