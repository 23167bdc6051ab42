"""A network with nothing but a loopback, for what would listen on any other."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_CLONE_NEWNET = 0x40000000


@contextmanager
def loopback_only() -> Iterator[None]:
    """Let this thread, and what it starts, live in a network of their own for so long."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and ip, for a network of its own")
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net", "rb") as before:
        if libc.unshare(_CLONE_NEWNET) != 0:
            pytest.skip(f"no network of its own: {os.strerror(ctypes.get_errno())}")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            libc.setns(before.fileno(), _CLONE_NEWNET)
