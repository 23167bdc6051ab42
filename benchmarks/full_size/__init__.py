"""HiDream-I1 at its full size on one card, without its weights: random ones take as long.

    python -m benchmarks.full_size --json found.json

Stock diffusers and this engine's ways, in turn, with the same weights and inputs. What is measured
how is in docs/performance.md. With `--size small` all of it runs on a CPU in about a minute.
"""
