#!/usr/bin/env bash
# Start the service: bash scripts/start_hidream_service.sh [options]; -h lists the options.
# Makes an environment on the first start; everything else is `hidream serve`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

cd "$ROOT"
find_python
extras=""
# On an Ascend machine torch_npu comes along, unless the environment has its own.
if compgen -G "/dev/davinci[0-9]*" >/dev/null && [ -z "$(installed_version torch_npu)" ]; then
    extras="[npu]"
fi
install "$extras"
exec "$PYTHON" -m hidream_server serve "$@"
