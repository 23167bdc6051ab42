"""The tasks that a real group paints: each kind of token sequence, and steps that are reused."""

from hidream_server.task import InferType
from tests.support import params

#: Of steps that tasks for Performance may reuse.
TOLERANCE = 0.2
TASKS = {
    "square": params(num_inference_steps=3),
    "padded": params(width=768, height=1024, num_inference_steps=2),
    "unguided": params(guidance_scale=0.0, num_inference_steps=2),
    "reusing": params(
        width=256, height=256, num_inference_steps=10, infer_type=InferType.PERFORMANCE
    ),
}
#: What is painted with compiled blocks, and in fp8.
SOME = {"+": ("padded",), "~": ("reusing",), "~+": ("reusing",)}
