"""What single operators cost on a CPU: the sparse feed-forward over diffusers' own, a known prompt.

Both feed-forwards run with one thread and the same weights, each first in every other pair, and
must give the same bits. Prints ratios of the CPU time that a thread spent, beside the goals.

    python -m benchmarks.operators --pairs 15
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")

import torch
from diffusers.models.transformers.transformer_hidream_image import MOEFeedForwardSwiGLU
from torch import nn

from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.devices.cpu import CPU
from hidream_server.model.loading import load_model
from hidream_server.model.mixture import MIXTURES
from hidream_server.model.moe import RoutedExperts, SparseFeedForward
from hidream_server.model_directory.reading import describe
from hidream_server.pipeline.conditioning import PromptEncoder, TextEncoder

MOE_GOAL, PROMPT_GOAL_MS = 1.25, 0.3
EXPERTS, CHOSEN = 4, 2
#: The demo model's, and wider ones.
WIDTHS = (96, 256, 512)
#: Rows and tokens of each.
SHAPES = ((1, 64), (2, 256), (8, 256), (2, 1024))


def feed_forwards(width: int) -> dict[str, nn.Module]:
    """Return diffusers' sparse feed-forward and ours, with the same weights."""
    torch.manual_seed(width)
    stock = MOEFeedForwardSwiGLU(width, 4 * width, EXPERTS, CHOSEN).eval()
    hidden = stock.experts[0].w1.out_features
    experts = RoutedExperts(0, EXPERTS, width, hidden, MIXTURES[CPU.mixture])
    for number, expert in enumerate(stock.experts):
        for name in ("w1", "w2", "w3"):
            experts.matrix(number, name).copy_(getattr(expert, name).weight)
    return {"stock": stock, "ours": SparseFeedForward(stock.gate, experts, stock.shared_experts)}


def milliseconds(call: Callable[[], object]) -> float:
    """Return the CPU time of this thread; what else the machine does counts little."""
    start = time.thread_time_ns()
    call()
    return (time.thread_time_ns() - start) / 1e6


def compare(arms: dict[str, nn.Module], tokens: torch.Tensor, pairs: int) -> str:
    """Return the stock time over ours, after one pair to warm up; their outputs must be equal."""
    assert torch.equal(arms["stock"](tokens), arms["ours"](tokens))
    taken: dict[str, list[float]] = {"stock": [], "ours": []}
    for pair in range(pairs):
        for arm in ("stock", "ours") if pair % 2 else ("ours", "stock"):
            taken[arm].append(milliseconds(lambda arm=arm: arms[arm](tokens)))
    stock, ours = taken["stock"], taken["ours"]
    median = statistics.median(a / b for a, b in zip(stock, ours, strict=True))
    return f"{median:.2f} (of the shortest {min(stock) / min(ours):.2f}: {min(ours):.2f} ms)"


def known_prompt(calls: int) -> list[float]:
    """Return what it takes to encode a prompt of the demo model that was encoded before."""
    description = describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH)
    names = {part.name for part in description.components if part.name.startswith("text_encoder")}
    where = torch.device("cpu")
    loaded = load_model(description, where, torch.float32, names).text_encoders
    encoders = {
        name: TextEncoder(tokenizer=tokenizer, module=module, device=where)
        for name, (tokenizer, module) in loaded.items()
    }
    prompts = PromptEncoder(encoders, 2**24)
    prompts.encode("a red circle")
    return [milliseconds(lambda: prompts.encode("a red circle")) for _ in range(calls)]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15)
    pairs = parser.parse_args().pairs
    torch.set_num_threads(1)
    print(f"sparse feed-forward, diffusers' time over ours: median of {pairs}, goal >= {MOE_GOAL}")
    for width in WIDTHS:
        arms = feed_forwards(width)
        for rows, length in SHAPES:
            found = compare(arms, torch.randn(rows, length, width), pairs)
            print(f"  width {width}, {rows} x {length} tokens: {found}", flush=True)
    known = known_prompt(100 * pairs)
    print(f"a known prompt: median {statistics.median(known):.4f} ms, goal <= {PROMPT_GOAL_MS}")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, one thread")


if __name__ == "__main__":
    main()
