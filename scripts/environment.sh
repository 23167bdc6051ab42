# Sourced by the other scripts: a Python environment with the pinned dependencies.
# Leaves $PYTHON set. Installs only what is not there: a second call installs nothing.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
MIN_PYTHON="3.11"
TORCH_RANGE=">=2.12,<2.15"

say() { echo "hidream: $*" >&2; }
die() { say "$*"; exit 1; }

# Use the active environment, else .venv, which is made if it is not there.
find_python() {
    if [ -n "${VIRTUAL_ENV:-}" ] && [ -x "$VIRTUAL_ENV/bin/python" ]; then
        PYTHON="$VIRTUAL_ENV/bin/python"
    elif [ -n "${CONDA_PREFIX:-}" ] && [ -x "$CONDA_PREFIX/bin/python" ]; then
        PYTHON="$CONDA_PREFIX/bin/python"
    else
        make_venv
        PYTHON="$ROOT/.venv/bin/python"
    fi
    version_ok "$PYTHON" || die "$PYTHON is older than Python $MIN_PYTHON: activate a newer environment, or none."
}

version_ok() { "$1" -c "import sys; sys.exit(sys.version_info[:2] < tuple(map(int, '$MIN_PYTHON'.split('.'))))"; }

make_venv() {
    "$ROOT/.venv/bin/python" -m pip --version >/dev/null 2>&1 && return
    local candidate
    for candidate in python3.13 python3.12 python3.11 python3; do
        if command -v "$candidate" >/dev/null && version_ok "$candidate" 2>/dev/null; then
            say "making .venv with $candidate"
            "$candidate" -m venv "$ROOT/.venv" || {
                # What it leaves half made would be taken for an environment next time.
                rm -rf "$ROOT/.venv"
                die "$candidate cannot make a virtual environment: install its venv package."
            }
            return
        fi
    done
    die "Python $MIN_PYTHON or newer is needed and was not found: install it, or activate an environment that has it."
}

# Two starts at once must not install into the same environment: the second one waits.
prepare() {
    exec 9>"$ROOT/.install-lock"
    flock --nonblock 9 || { say "another start is installing; waiting for it"; flock 9; }
    find_python
    install "$1"
    exec 9>&-
}

# Install the project with the given extras, unless this very thing was installed here before.
install() {
    local extras="$1" stamp wanted
    stamp="$("$PYTHON" -c 'import sys; print(sys.prefix)')/.hidream-installed"
    wanted="$(cat "$ROOT/constraints.txt" "$ROOT/pyproject.toml" | cksum) $ROOT $extras"
    local constraints="$ROOT/constraints.txt" torch
    torch="$(installed_version torch)"
    if [ -n "$torch" ] && [ -f "$stamp" ] && grep -qxF "$wanted" "$stamp"; then return; fi
    if [ -n "$torch" ]; then
        check_torch "$torch"
        constraints="${stamp%/*}/.hidream-constraints"
        grep -v '^torch\(-npu\)\?==' "$ROOT/constraints.txt" >"$constraints"
        echo "torch==$torch" >>"$constraints"
        # An Ascend image brings its own torch_npu, which must stay the one that fits its torch.
        [ -z "$(installed_version torch_npu)" ] || extras="${extras/\[npu\]/}"
    else
        # torch first: whatever depends on it would otherwise pull in the newest one.
        pip_install "$constraints" torch
    fi
    pip_install "$constraints" -e "$ROOT$extras"
    echo "$wanted" >>"$stamp"
}

installed_version() {
    "$PYTHON" -c "
import importlib.metadata as m
try: print(m.version('$1'))
except m.PackageNotFoundError: pass"
}

# An environment's own torch is kept when this project can run on it.
check_torch() {
    "$PYTHON" - "$1" "$TORCH_RANGE" <<'PY' || die "The active environment has torch $1, but HiDream Server needs torch$TORCH_RANGE: activate another environment, or none."
import re, sys
version = tuple(int(n) for n in re.findall(r"\d+", sys.argv[1])[:2])
low, high = (tuple(map(int, part.strip("<>=").split("."))) for part in sys.argv[2].split(","))
sys.exit(not low <= version < high)
PY
}

pip_install() {
    local constraints="$1"
    shift
    say "installing ${*: -1} (once; this takes some minutes)"
    PIP_CONSTRAINT="$constraints" "$PYTHON" -m pip install --quiet --disable-pip-version-check "$@" ||
        die "the installation failed; the lines above say why."
}
