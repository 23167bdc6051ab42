"""A stand-in for a HiDream-I1 project: takes the first version's arguments, paints plain pictures.

With --enable_parallelism its ranks really meet in a gloo group. A prompt of "fail on many" fails
there, one of "fail" everywhere, "keep quiet" paints nothing, "die" kills the second rank,
"go on for ever" has no end.
"""

import argparse
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

parser = argparse.ArgumentParser()
for flag in (
    *("model_path", "model_path_extra", "prompt_file", "prompt_file_type", "info_file_save_path"),
    *("save_dir", "resolution", "infer_type", "enable_parallelism"),
):
    parser.add_argument(f"--{flag}")
for flag in ("num_images_per_prompt", "num_inference_steps", "batch_size", "tp_size", "ep_size"):
    parser.add_argument(f"--{flag}", type=int, default=1)
parser.add_argument("--device_id", type=int, default=0)
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

prompt = Path(arguments.prompt_file).read_text(encoding="utf-8")
ranks, rank = 1, 0
if arguments.enable_parallelism == "True":
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    ranks, rank = dist.get_world_size(), dist.get_rank()
    if prompt == "fail on many":
        raise SystemExit(3)
    if prompt == "die" and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    together = torch.ones(1)
    dist.all_reduce(together)
    ranks = int(together.item())
if prompt == "fail":
    raise SystemExit("this prompt cannot be painted")

width, height = map(int, arguments.resolution.split("x"))
for index in range(arguments.num_images_per_prompt):
    for _ in tqdm(range(arguments.num_inference_steps), disable=rank != 0, mininterval=0):
        pass
    while prompt == "go on for ever":
        time.sleep(0.1)
    if rank == 0 and prompt != "keep quiet":
        colour = (arguments.seed + index, ranks, arguments.num_inference_steps)
        picture = np.full((height, width, 3), colour, np.uint8)
        Image.fromarray(picture).save(Path(arguments.save_dir) / f"image_{index}.png")
if rank == 0:
    Path(arguments.info_file_save_path).write_text(json.dumps(vars(arguments)))
