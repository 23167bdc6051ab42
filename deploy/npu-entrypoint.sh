#!/usr/bin/env bash
# The NPU image's entry: CANN's environment, whichever version's layout the base image has, then
# the hidream command in this process, so that signals reach it.
set -eo pipefail

for setup in /usr/local/Ascend/cann/set_env.sh /usr/local/Ascend/ascend-toolkit/set_env.sh; do
    if [ -f "$setup" ]; then
        # A line of it that finds nothing is no reason not to start.
        set +e
        # shellcheck source=/dev/null
        source "$setup"
        set -e
        break
    fi
done

# The host's driver is mounted at run time, so that no file of the image names it.
driver=/usr/local/Ascend/driver/lib64
export LD_LIBRARY_PATH="$driver:$driver/common:$driver/driver${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

mkdir -p "$ASCEND_CACHE_PATH" "$ASCEND_WORK_PATH" "$ASCEND_PROCESS_LOG_PATH"
exec hidream "$@"
