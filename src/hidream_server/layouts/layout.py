"""A layout: how many ranks each axis of parallelism has, and which rank stands where.

Numbers only; whether a model or a machine allows a layout is `choice`'s business.
"""

import re
from dataclasses import dataclass
from typing import Self

from hidream_server.errors import LayoutUnavailableError


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinates:
    """Where a rank stands on each axis."""

    cfg: int
    sp: int
    ep: int
    tp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Ranks per axis: guidance, sequence, tensor and expert parallel."""

    cfg: int = 1
    sp: int = 1
    tp: int = 1
    ep: int = 1

    @property
    def ranks(self) -> int:
        return self.cfg * self.sp * self.tp * self.ep

    def __str__(self) -> str:
        parts = [f"{axis}{size}" for axis, size in self._sizes().items() if size > 1]
        return "-".join(parts) or "tp1"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "cfg2-sp4"; the axes may come in any order, each once."""
        sizes: dict[str, int] = {}
        for part in text.strip().lower().split("-"):
            match = re.fullmatch(r"(cfg|sp|tp|ep)([1-9]\d?)", part)
            if match is None or match[1] in sizes:
                raise LayoutUnavailableError(
                    f"The layout {text!r} cannot be read: join cfg, sp, tp and ep, each once and"
                    " with its size, by dashes, like cfg2-sp4 or tp4-ep2."
                )
            sizes[match[1]] = int(match[2])
        return cls(**sizes)

    def coordinates(self, rank: int) -> Coordinates:
        """Return where a rank stands: tensor-parallel ranks, which talk most, are neighbours."""
        rest, tp = divmod(rank, self.tp)
        rest, ep = divmod(rest, self.ep)
        cfg, sp = divmod(rest, self.sp)
        return Coordinates(cfg=cfg, sp=sp, ep=ep, tp=tp)

    def groups(self, *axes: str) -> list[list[int]]:
        """Return the groups of ranks that differ on these axes alone, in a fixed order."""
        by_rest: dict[tuple[int, ...], list[int]] = {}
        for rank in range(self.ranks):
            where = self.coordinates(rank)
            rest = [axis for axis in self._sizes() if axis not in axes]
            by_rest.setdefault(tuple(getattr(where, axis) for axis in rest), []).append(rank)
        return list(by_rest.values())

    def _sizes(self) -> dict[str, int]:
        return {"cfg": self.cfg, "sp": self.sp, "tp": self.tp, "ep": self.ep}
