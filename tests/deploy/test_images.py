"""The images cannot be built in a test: their files are linted, and held to what they promise."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, DOCKERFILES, ROOT, VOLUME, load, read, run, tool


@pytest.fixture(params=DOCKERFILES, ids=lambda path: path.name)
def dockerfile(request: pytest.FixtureRequest) -> str:
    return without_comments(read(request.param))


def without_comments(text: str) -> str:
    """Return the instructions, one on each line."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))


def instructions(dockerfile: str, name: str) -> list[str]:
    return re.findall(rf"^{name} (.*)$", dockerfile, re.MULTILINE)


def test_hadolint_has_nothing_to_say() -> None:
    run(tool("hadolint"), *DOCKERFILES)


def test_hadolint_finds_what_is_wrong(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python\nRUN cd /tmp && sudo pip install torch\n")
    with pytest.raises(AssertionError, match="DL30"):
        run(tool("hadolint"), bad)


def test_every_installation_is_held_to_the_constraints(dockerfile: str) -> None:
    installing = [line for line in instructions(dockerfile, "RUN") if "install" in line]
    for line in installing:
        if "pip install" in line:
            assert "pip install -c constraints.txt " in line or (
                "pip install --no-deps -c constraints.txt " in line
            )
        else:
            assert "npu-install.sh" in line or "apt-get" in line
    assert any("pip install" in line for line in installing)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_torch_is_installed_before_what_depends_on_it(kind: str) -> None:
    text = without_comments(read(DOCKERFILES[0]))
    [stage] = re.findall(rf"^FROM environment AS {kind}-environment$(.*?)^FROM", text, re.M | re.S)
    torch, project = (line for line in instructions(stage, "RUN") if "pip install" in line)
    assert torch.endswith(" torch")
    assert project.endswith('"$(echo /wheels/*.whl)[otel,postgresql,s3]"')


def test_what_is_copied_is_there_and_not_ignored(dockerfile: str) -> None:
    ignored = read(ROOT / ".dockerignore").splitlines()
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    for line in instructions(dockerfile, "COPY"):
        if line.startswith("--from="):
            continue
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(fnmatch(source, pattern) for pattern in allowed), source
    for pattern in allowed:
        assert (ROOT / pattern).exists(), pattern


def test_the_server_runs_as_the_user_that_the_other_files_name(dockerfile: str) -> None:
    assert instructions(dockerfile, "USER")[-1] == "10001:10001"
    assert "useradd --uid 10001 --gid 10001" in dockerfile
    pod = load(DEPLOY / "kubernetes" / "base" / "deployment.yaml")["spec"]["template"]["spec"]
    user = pod["securityContext"]
    assert user["runAsUser"] == user["runAsGroup"] == user["fsGroup"] == 10001


def test_all_that_is_written_goes_into_the_volume(dockerfile: str) -> None:
    folders = dict(re.findall(r"(\w*(?:HOME|DIR|PATH))=(/\S+)", dockerfile))
    folders.pop("PATH", None)
    assert {"HOME", "XDG_CACHE_HOME", "HIDREAM_DATA_DIR", "HIDREAM_LOG_DIR"} <= folders.keys()
    assert all(path.startswith(VOLUME) for path in folders.values()), folders
    assert instructions(dockerfile, "WORKDIR")[-1] == VOLUME


def test_both_files_keep_the_same_promises() -> None:
    for name in ("EXPOSE", "STOPSIGNAL", "CMD"):
        gpu, npu = (instructions(without_comments(read(path)), name) for path in DOCKERFILES)
        assert gpu == npu != [], name
