#!/usr/bin/env bash
# Everything that CI runs: bash scripts/run_tests.sh [pytest arguments]; --soak for the long part.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
source "$(dirname "${BASH_SOURCE[0]}")/browser.sh"

cd "$ROOT"
prepare "[dev]"
prepare_browser
export HF_HUB_OFFLINE=1

"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy
"$PYTHON" -c "from importlinter.cli import lint_imports_command; lint_imports_command()"
# A file is run in order, by one of two; many tests wait for processes or keep one core busy.
"$PYTHON" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
