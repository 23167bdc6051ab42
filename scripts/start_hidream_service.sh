#!/usr/bin/env bash
# Start the service: bash scripts/start_hidream_service.sh [options]; -h lists the options.
# Makes an environment on the first start; everything else is `hidream serve`. With --install alone
# it makes the environment and starts nothing.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

cd "$ROOT"
# On an Ascend machine torch_npu comes along.
extras=""
if compgen -G "/dev/davinci[0-9]*" >/dev/null; then extras="[npu]"; fi
prepare "$extras"
if [ "$*" = "--install" ]; then
    say "the commands are in ${PYTHON%/*}, like ${PYTHON%/*}/hidream doctor"
    exit
fi
exec "$PYTHON" -m hidream_server serve "$@"
