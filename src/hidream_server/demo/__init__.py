"""The embedded demo model: HiDream-I1's classes and directory shape, tiny, made by `training/`."""

from pathlib import Path

DEMO_MODEL_PATH = Path(__file__).parent / "HiDream-I1-Demo"
DEMO_EXTRA_MODEL_PATH = Path(__file__).parent / "Llama-Demo"

#: Said wherever a picture or the service could be mistaken for the real thing.
DEMO_NOTICE = "This is the embedded demo model, a toy; give the real HiDream-I1 with -m and -e."
