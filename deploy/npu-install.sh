#!/usr/bin/env bash
# Used by Dockerfile.npu: install the wheel into the base image's Python, by the same rules as
# scripts/environment.sh: a torch_npu that is there stays, with the torch that it fits.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/environment.sh"

wheel="$1"
PYTHON="${PYTHON:-python3}"
version_ok "$PYTHON" || die "The base image's $PYTHON is older than Python $MIN_PYTHON."

if [ -n "$(installed_version torch_npu)" ]; then
    torch="$(installed_version torch)"
    check_torch "$torch"
    constraints="$ROOT/own-constraints.txt"
    grep -v '^torch\(-npu\)\?==' "$ROOT/constraints.txt" >"$constraints"
    echo "torch==$torch" >>"$constraints"
    extras="[otel,postgresql,s3]"
else
    constraints="$ROOT/constraints.txt"
    # torch first: whatever depends on it would otherwise pull in another build.
    pip_install "$constraints" --no-deps --index-url "${TORCH_INDEX_URL:?}" torch
    extras="[npu,otel,postgresql,s3]"
fi
pip_install "$constraints" "$wheel$extras"
