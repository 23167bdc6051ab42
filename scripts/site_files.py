"""Lays the site out as the repository is, so that links between its texts need no rewriting.

A hook of MkDocs; knows which files pages may lead to, and nothing of what they say.
"""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
#: Beside docs/, what its pages lead to.
TEXTS = (
    "README.md",
    "README.zh-CN.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "training/README.md",
)
FOLDERS = ("docs", "deploy")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Put every text at its place in the repository, in the stead of those of docs/ alone."""
    theirs = [file for file in files if file.src_dir != config.docs_dir]
    paths = [ROOT / name for name in TEXTS]
    paths += [path for name in FOLDERS for path in (ROOT / name).rglob("*") if path.is_file()]
    ours = [
        File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path))
        for path in paths
    ]
    return Files([*theirs, *ours])
