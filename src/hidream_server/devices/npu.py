"""Ascend NPUs."""

import importlib.util
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hidream_server.devices.device import DeviceKind
from hidream_server.devices.tools import ask

#: The driver shows one file davinciN for each NPU here.
DEVICE_FOLDER = Path("/dev")
#: Where the driver's installer writes its version, as Version=…
VERSION_FILE = Path("/usr/local/Ascend/driver/version.info")


def _count() -> int:
    names = (path.name for path in DEVICE_FOLDER.glob("davinci*"))
    return sum(1 for name in names if re.fullmatch(r"davinci\d+", name))


def _obstacle() -> str | None:
    if importlib.util.find_spec("torch_npu") is None:
        return "torch_npu is not installed (pip install 'hidream-server[npu]')"
    return None


#: Communication and memory of a rank; what the user exported wins.
_DEFAULTS = {
    "HCCL_CONNECT_TIMEOUT": "600",
    # Seconds a collective may take: a rank that died should not be waited for half an hour.
    "HCCL_EXEC_TIMEOUT": "300",
    # MiB, twice for each group of ranks; a block's activations are 23 MB a row.
    "HCCL_BUFFSIZE": "256",
    "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True",
    # Milliseconds: two hours, for a stream that waits for a slow first start.
    "ACL_STREAM_TIMEOUT": "7200000",
}
#: The first version exported these; no library reads them, or they say what holds anyway.
_WITHOUT_EFFECT = (
    "HCCL_TIMEOUT",
    "HCCL_SINGLE_NODE",
    "HCCL_LOCAL_RANK_NUM",
    "HCCL_SECURITY_ENABLE",
    "HCCL_DISABLE",
    "HCCL_WHITELIST_DISABLE",
)
#: A stream time-out below a minute was meant in seconds.
_SHORT_STREAM_MS = 60_000


def _environment(devices: Sequence[int], _in_use: int) -> Mapping[str, str]:
    """Ascending order, or the runtime sees no device at all."""
    visible = {"ASCEND_RT_VISIBLE_DEVICES": ",".join(str(device) for device in sorted(devices))}
    return {name: os.environ.get(name, value) for name, value in _DEFAULTS.items()} | visible


def _doubts(environ: Mapping[str, str]) -> list[str]:
    found = [f"{name} has no effect." for name in _WITHOUT_EFFECT if name in environ]
    timeout = environ.get("ACL_STREAM_TIMEOUT", "")
    if timeout.isdigit() and int(timeout) < _SHORT_STREAM_MS:
        found.append(
            f"ACL_STREAM_TIMEOUT is in milliseconds: {timeout} is {int(timeout) / 1000:g} s."
        )
    return found


def _memory(devices: Sequence[int]) -> int | None:
    sizes = []
    for _, said in _reports("memory", devices):
        # The older chips have DDR, the newer HBM; the other one is shown as zero or not at all.
        found = re.findall(r"(?:HBM|DDR) Capacity\(MB\)\s*:\s*(\d+)", said)
        sizes += [max(map(int, found)) * 2**20] if found else []
    return min(sizes, default=None)


def _driver() -> str | None:
    try:
        said = VERSION_FILE.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^Version\s*=\s*(\S+)", said, re.MULTILINE)
    return found[1] if found else None


def _complaints(devices: Sequence[int]) -> list[str]:
    found = []
    for device, said in _reports("health", devices):
        health = re.search(r"^\s*Health(?: Status)?\s*:\s*(\S+)", said, re.MULTILINE)
        if health and health[1].upper() != "OK":
            found.append(f"npu-smi says of npu {device}: health {health[1]}.")
    return found


def _reports(topic: str, devices: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Ask npu-smi about each device, until it says nothing; its absence is no fault."""
    chips = _chips()
    for device in devices:
        card, chip = chips.get(device, (str(device), "0"))
        said = ask("npu-smi", "info", "-t", topic, "-i", card, "-c", chip)
        if said is None:
            return
        yield device, said


def _chips() -> dict[int, tuple[str, str]]:
    """Return npu-smi's numbers of card and chip by the runtime's number of the device."""
    table = ask("npu-smi", "info", "-m") or ""
    rows = re.findall(r"^\s*(\d+)\s+(\d+)\s+(\d+)\s", table, re.MULTILINE)
    return {int(device): (card, chip) for card, chip, device in rows}


NPU = DeviceKind(
    name="npu",
    is_accelerator=True,
    extension="torch_npu",
    dtype="bfloat16",
    dtype_bytes=2,
    backend="hccl",
    mixture="npu_grouped_matmul",
    count=_count,
    obstacle=_obstacle,
    environment=_environment,
    memory=_memory,
    fp8_obstacle=lambda _devices: "it is not written for NPUs",
    driver=_driver,
    complaints=_complaints,
    doubts=_doubts,
)
