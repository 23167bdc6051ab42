"""The soak, five minutes on each database: `bash scripts/run_tests.sh --soak`."""

import subprocess
import sys

import pytest


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("database", ["postgresql", "sqlite"])
def test_every_promise_is_kept_whatever_happens(database: str) -> None:
    command = [sys.executable, "-m", "benchmarks.soak", "--minutes", "5", "--database", database]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
