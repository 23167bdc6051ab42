#!/usr/bin/env bash
# Start the service, and again whenever its source changes: bash scripts/dev.sh [options of serve].
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

cd "$ROOT"
prepare "[dev]"
# Tasks that run are handed back to the queue, and go on from their checkpoints after the restart.
command=("$PYTHON" -m hidream_server serve --drain-timeout-s 0 "$@")
exec "$PYTHON" -m watchfiles --sigint-timeout 30 "$(printf '%q ' "${command[@]}")" src
