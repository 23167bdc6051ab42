"""What the parts of the benchmark have in common: device, weights, ways, components.

All of it is made when it is first asked for.
"""

import gc
import math
import statistics
from collections.abc import Callable
from functools import cached_property

import psutil
import torch

from benchmarks.full_size.sizes import Size
from benchmarks.full_size.timing import Budget, calls
from benchmarks.full_size.ways import Engine, Stock, Way, make_network, make_transformer
from benchmarks.full_size.weights import (
    Weights,
    demo_parts,
    make_components,
    make_weights,
    parameters,
)
from hidream_server.devices.device import DeviceKind
from hidream_server.layouts.layout import Layout
from hidream_server.layouts.memory import RankMemory, Room, plan_memory
from hidream_server.model.loading import LoadedModel
from hidream_server.parallel.network import Network
from hidream_server.worker.device import RankDevice

STOCK, ENGINE, GROUPED, HOISTED = "stock diffusers", "engine's loop", "+ grouped MoE", "+ hoisted"
COMPILED, FP8, FP8_COMPILED = "+ compiled", "fp8, lossy", "fp8, lossy, compiled"
STEP_CACHE = "step cache, lossy"
#: Of the step cache; with random weights a tenth of it, which is much, lets it reuse nothing.
TOLERANCE = 0.5


class Bench:
    """One size on one device."""

    def __init__(
        self, size: Size, device: RankDevice, kind: DeviceKind, budget: Budget, rounds: int
    ) -> None:
        self.size, self.device, self.kind = size, device, kind
        self.budget, self.rounds = budget, rounds
        #: On a CPU the engine would go from expert to expert; here it shows what cards do.
        self.mixture = kind.mixture if kind.is_accelerator else "grouped_mm"
        self.backend = "inductor" if kind.is_accelerator else "eager"
        self._ways: dict[str, Way] = {}
        self._components: LoadedModel | None = None

    @cached_property
    def weights(self) -> Weights:
        return make_weights(self.size.transformer, self.device.torch_device, self.device.dtype)

    @cached_property
    def demo(self) -> LoadedModel:
        return demo_parts()

    @property
    def components(self) -> LoadedModel:
        """Autoencoder and text encoders."""
        if self._components is None:
            where = (self.device.torch_device, self.device.dtype)
            self._components = make_components(self.size, *where)
        return self._components

    def forget_components(self) -> None:
        if self._components is not None:
            self._components = None
            self.clean_up()

    def way(self, name: str) -> Way:
        """Return one of the ways, made once."""
        if name not in self._ways:
            self._ways[name] = self._make(name)
        return self._ways[name]

    def forget(self, name: str) -> None:
        self._ways.pop(name, None)
        self.clean_up()

    def clean_up(self) -> None:
        """Free what nobody holds any more; of cycles, too."""
        gc.collect()
        self.device.free_cache()

    def engine(self, name: str) -> Engine:
        way = self.way(name)
        assert isinstance(way, Engine)
        return way

    def _make(self, name: str) -> Way:
        if name == STOCK:
            transformer = make_transformer(self.size, self.weights)
            return Stock(transformer, self.size, self.demo.new_scheduler())
        if name == STEP_CACHE:
            return self._around(self.engine(HOISTED).network, TOLERANCE)
        mixture = None if name == ENGINE else self.mixture
        transformer = make_transformer(self.size, self.weights, mixture)
        network = make_network(transformer, hoisted=name not in (ENGINE, GROUPED))
        fp8 = name in (FP8, FP8_COMPILED)
        if fp8:
            network.add_fp8()
        if name in (COMPILED, FP8_COMPILED):
            network.compile_blocks(self.backend)
        return self._around(network, fp8=fp8)

    def _around(self, network: Network, tolerance: float = 0.0, fp8: bool = False) -> Engine:
        without_encoders = LoadedModel(
            vae=None, text_encoders={}, new_scheduler=self.demo.new_scheduler
        )
        return Engine(network, without_encoders, self.size, self.device, tolerance, fp8)

    # What the device can do

    @cached_property
    def product_seconds(self) -> list[float]:
        """Of a large product of matrices."""
        side = self.size.matrix
        one, other = (self._noise(side, side) for _ in range(2))
        return calls(self.device, lambda: one @ other, self.size.calls)

    @cached_property
    def copy_seconds(self) -> list[float]:
        """Of a large copy."""
        source = self._noise(self.size.copied_bytes // self.device.dtype.itemsize)
        target = torch.empty_like(source)
        return calls(self.device, lambda: target.copy_(source), self.size.calls)

    @property
    def operations_per_s(self) -> float:
        return 2.0 * self.size.matrix**3 / statistics.median(self.product_seconds)

    def _noise(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, device=self.device.torch_device, dtype=self.device.dtype)

    # Memory

    @cached_property
    def _plan(self) -> RankMemory:
        room = Room(
            device_bytes=None, dtype_bytes=2, prompt_cache_bytes=0, max_running=1, offload="never"
        )
        description = self.size.description(parameters=parameters(self.size))
        [rank] = plan_memory(description, Layout(), room)
        return rank

    def needed_bytes(self, copies: float, components: bool) -> int:
        """Return what a part takes: copies of the transformer, what works, other components."""
        beside = self._plan.beside if components else 0
        weights = math.ceil(copies * self._plan.transformer)
        return weights + self._plan.working + self._plan.prompts + beside

    def free_bytes(self) -> int:
        """Return what is free, or will be once this has let go of what it holds."""
        if not self.device.is_accelerator:
            return psutil.virtual_memory().available
        module = torch.get_device_module(self.device.torch_device)
        free, _ = module.mem_get_info(self.device.torch_device)
        kept = module.memory_reserved(self.device.torch_device)
        return int(free + kept)

    def peak_bytes(self, run: Callable[[], object]) -> float | None:
        """Run; return the most that was allocated on the device meanwhile. A CPU does not say."""
        if not self.device.is_accelerator:
            run()
            return None
        self.device.synchronize()
        module = torch.get_device_module(self.device.torch_device)
        module.reset_peak_memory_stats(self.device.torch_device)
        run()
        return float(self.device.peak_memory_bytes())
