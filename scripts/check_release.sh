#!/usr/bin/env bash
# Build sdist and wheel, and make a picture with the wheel in an empty environment. What was built
# is left in dist/. Takes some minutes.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

cd "$ROOT"
prepare "[dev]"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT

say "building sdist and, from it, wheel"
rm -rf dist
"$PYTHON" -m build --quiet
"$PYTHON" -m venv "$folder/venv"
cd "$folder"
PYTHON="$folder/venv/bin/python"
pip_install "$ROOT/constraints.txt" torch
pip_install "$ROOT/constraints.txt" "$ROOT"/dist/*.whl

# From here on nothing of the repository is in reach.
env -u PYTHONPATH venv/bin/hidream --version
env -u PYTHONPATH venv/bin/hidream demo-model
env -u PYTHONPATH venv/bin/hidream generate "a red circle on a white background" -o x.png --size 512x512
"$PYTHON" - <<'PY'
from PIL import Image

with Image.open("x.png") as picture:
    middle, corner = picture.getpixel((256, 256)), picture.getpixel((8, 8))
    print(picture.size, "middle", middle, "corner", corner)
    if picture.size != (512, 512) or middle == corner:
        raise SystemExit("This is no red circle on a white background.")
PY
say "the wheel makes pictures"
