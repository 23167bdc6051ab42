"""The parts of the benchmark, most important first."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.full_size.bench import Bench
from benchmarks.full_size.parts.around import measure_decoding, measure_encoding, measure_pictures
from benchmarks.full_size.parts.files import measure_loading
from benchmarks.full_size.parts.operators import measure_ceiling, measure_operators
from benchmarks.full_size.parts.reuse import measure_step_cache
from benchmarks.full_size.parts.sampling import measure_sampling
from benchmarks.full_size.parts.server import measure_server
from benchmarks.full_size.parts.steps import (
    measure_compiled,
    measure_fp8,
    measure_one_row,
    measure_steps,
)
from benchmarks.full_size.parts.switch import measure_switch
from benchmarks.full_size.report import Report


@dataclass(frozen=True, slots=True)
class Part:
    """Something that can be measured by itself."""

    name: str
    help: str
    measure: Callable[[Bench, Report], None]
    #: At the full size it is not begun with less time left, in seconds: what it may take, guessed.
    least_s: float
    #: How often the transformer's weights are on the device at once, more or less.
    copies: float = 1.0
    #: Autoencoder and text encoders are there.
    components: bool = False
    #: Pictures would not be the same; measured only where it is named.
    lossy: bool = False


PARTS = {
    part.name: part
    for part in (
        Part("ceiling", "a large product, a large copy", measure_ceiling, 5, copies=0),
        Part("step", "a guided step: stock, and ours piece by piece", measure_steps, 40),
        Part("operators", "a sparse feed-forward, an attention", measure_operators, 10),
        Part("sampler", "a sampler's step, on the host and there", measure_sampling, 5, copies=0),
        Part("compile", "steps with compiled blocks", measure_compiled, 120),
        Part("one-row", "a step without guidance", measure_one_row, 20),
        Part("decode", "latents to pixels", measure_decoding, 10, 0, components=True),
        Part("encode", "a new prompt, a known one", measure_encoding, 20, components=True),
        Part("pictures", "prompt to PNG", measure_pictures, 45, components=True),
        Part(
            "fp8",
            "lossy, only if named: steps with products in fp8",
            measure_fp8,
            40,
            copies=1.6,
            lossy=True,
        ),
        Part(
            "step-cache",
            "lossy, only if named: pictures with reused steps",
            measure_step_cache,
            90,
            lossy=True,
        ),
        Part("switch", "another variant's weights", measure_switch, 40),
        Part("load", "weights from local files", measure_loading, 90, copies=2),
        Part("server", "what the server adds, demo model on the CPU", measure_server, 90, copies=0),
    )
}
