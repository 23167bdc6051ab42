"""A HiDream-I1 project as fast as the server's own engine, started anew for each task.

Takes the first version's arguments and computes with the engine's own parts, so that against a
resident group nothing differs but what starting and loading cost.
"""

import argparse
import os
from pathlib import Path

import torch.distributed as dist
from PIL import Image

from hidream_server.devices.cpu import CPU
from hidream_server.layouts.layout import Layout
from hidream_server.model_directory.reading import describe
from hidream_server.parallel.place import Place, alone, take_place
from hidream_server.task import TaskParams
from hidream_server.worker.assembly import assemble
from hidream_server.worker.device import open_device


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for flag in ("--model_path", "--model_path_extra", "--prompt_file", "--save_dir"):
        parser.add_argument(flag, type=Path)
    for flag in ("--num_inference_steps", "--tp_size", "--ep_size", "--seed"):
        parser.add_argument(flag, type=int, default=1)
    parser.add_argument("--resolution")
    parser.add_argument("--guidance_scale", type=float)
    parser.add_argument("--enable_parallelism")
    return parser.parse_known_args()[0]


def place(given: argparse.Namespace) -> Place:
    if given.enable_parallelism != "True":
        return alone()
    dist.init_process_group("gloo")
    return take_place(Layout(tp=given.tp_size, ep=given.ep_size), int(os.environ["RANK"]))


def main() -> None:
    given = arguments()
    description = describe(given.model_path, given.model_path_extra)
    mine = place(given)
    runner = assemble(description, mine, open_device(CPU, 0), CPU.mixture, 0)
    width, height = map(int, given.resolution.split("x"))
    task = TaskParams(
        prompt=given.prompt_file.read_text(encoding="utf-8"),
        negative_prompt="",
        width=width,
        height=height,
        num_inference_steps=given.num_inference_steps,
        guidance_scale=given.guidance_scale,
        num_images=1,
        seed=given.seed,
    )
    [run] = runner.begin(task)
    while not run.finished:
        runner.step([run])
    if mine.rank == 0:
        Image.fromarray(runner.decode(run)).save(given.save_dir / "picture.png")


main()
