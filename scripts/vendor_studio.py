"""Fetches the libraries of the Studio page: python scripts/vendor_studio.py

Needs npm. What it writes is committed, so that nobody else does.
"""

import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

VENDOR = Path(__file__).parents[1] / "src/hidream_server/studio/vendor"

#: Package, version, the module in it, our name for it.
LIBRARIES = (
    ("preact", "11.2.0", "dist/preact.mjs", "preact"),
    ("preact", "11.2.0", "hooks/dist/hooks.mjs", "hooks"),
    ("@preact/signals-core", "1.14.5", "dist/signals-core.mjs", "signals-core"),
    ("@preact/signals", "2.11.4", "dist/signals.mjs", "signals"),
    ("htm", "3.1.1", "dist/htm.mjs", "htm"),
)
#: By the name under which modules import each other. A browser knows only addresses.
ADDRESSES = {
    "preact": "./preact.js",
    "preact/hooks": "./hooks.js",
    "@preact/signals-core": "./signals-core.js",
}


def main() -> None:
    VENDOR.mkdir(parents=True, exist_ok=True)
    lines = ["# Libraries of the Studio page", "", "Fetched by `scripts/vendor_studio.py`.", ""]
    lines += ["| file | package | version | licence |", "| --- | --- | --- | --- |"]
    for package, version, module, name in LIBRARIES:
        with tempfile.TemporaryDirectory() as folder:
            unpacked = fetch(package, version, Path(folder))
            text = (unpacked / module).read_text()
            licence = (unpacked / "LICENSE").read_text()
        (VENDOR / f"{name}.js").write_text(adapted(text))
        (VENDOR / f"{name}.LICENSE").write_text(licence)
        lines.append(f"| {name}.js | {package} | {version} | [text]({name}.LICENSE) |")
    (VENDOR / "README.md").write_text("\n".join(lines) + "\n")


def fetch(package: str, version: str, folder: Path) -> Path:
    """Return where a package lies, unpacked."""
    command = ["npm", "pack", "--silent", f"{package}@{version}"]
    archive = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    with tarfile.open(folder / archive.stdout.split()[-1]) as files:
        files.extractall(folder, filter="data")
    return folder / "package"


def adapted(text: str) -> str:
    """Return a module that imports others by their addresses here, and names no source map."""
    for name, address in ADDRESSES.items():
        text = re.sub(rf'(from|import)(\s*)"{re.escape(name)}"', rf'\1\2"{address}"', text)
    return re.sub(r"\n//# sourceMappingURL=.*", "\n", text)


if __name__ == "__main__":
    main()
