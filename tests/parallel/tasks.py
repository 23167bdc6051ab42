"""The tasks that a real group paints, one of each kind of token sequence."""

from tests.support import params

TASKS = {
    "square": params(num_inference_steps=3),
    "padded": params(width=768, height=1024, num_inference_steps=2),
    "unguided": params(guidance_scale=0.0, num_inference_steps=2),
}
