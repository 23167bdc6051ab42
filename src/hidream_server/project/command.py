"""The command by which a HiDream-I1 project paints one task, with the first version's arguments.

Only builds it; runs nothing.
"""

import logging
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from hidream_server.layouts.layout import Layout
from hidream_server.task import TaskParams

logger = logging.getLogger(__name__)

SCRIPT = "inference.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """The user's checkout and the models it is to load."""

    path: Path
    model_path: str
    extra_model_path: str | None

    def understands(self, flag: str) -> bool:
        """The first version passed neither seed nor guidance; some projects take them."""
        source = (self.path / SCRIPT).read_text(encoding="utf-8", errors="replace")
        return re.search(rf"{re.escape(flag)}\b", source) is not None


def build_command(project: Project, params: TaskParams, layout: Layout, folder: Path) -> list[str]:
    """Return the command line; the prompt is written to `folder`, where the pictures will be."""
    prompt_file = folder / "prompt.txt"
    # One line is one prompt.
    prompt_file.write_text(" ".join(params.prompt.split()), encoding="utf-8")
    arguments = {
        "--model_path": project.model_path,
        "--model_path_extra": project.extra_model_path or "",
        "--prompt_file": str(prompt_file),
        "--prompt_file_type": "plain",
        "--info_file_save_path": str(folder / "info.json"),
        "--save_dir": str(folder),
        "--num_images_per_prompt": str(params.num_images),
        "--resolution": f"{params.width}x{params.height}",
        "--num_inference_steps": str(params.num_inference_steps),
        "--batch_size": "1",
        "--infer_type": str(params.infer_type),
    }
    optional = {
        "--seed": str(params.seed),
        "--guidance_scale": f"{params.guidance_scale:g}",
        "--negative_prompt": params.negative_prompt,
    }
    unknown = [flag for flag in optional if not project.understands(flag)]
    if unknown:
        logger.warning("%s takes no %s: the project decides", SCRIPT, ", ".join(unknown))
    arguments |= {flag: value for flag, value in optional.items() if flag not in unknown}
    return [
        *_start(layout),
        *_parallelism(layout),
        *(x for pair in arguments.items() for x in pair),
    ]


def _start(layout: Layout) -> list[str]:
    # Agent and ranks are started through a module that ends each with its parent.
    bound = ("-m", "hidream_server.ipc.bound")
    if layout.ranks == 1:
        return [sys.executable, *bound, SCRIPT]
    return [
        *(sys.executable, *bound, "-m", "torch.distributed.run"),
        *("--nnodes", "1", "--nproc-per-node", str(layout.ranks)),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"),
        *bound,
        SCRIPT,
    ]


def _parallelism(layout: Layout) -> list[str]:
    if layout.ranks == 1:
        return ["--device_id", "0"]
    sizes = ("--tp_size", str(layout.tp), "--ep_size", str(layout.ep))
    return ["--enable_parallelism", "True", *sizes]
