"""Ascend NPUs."""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from hidream_server.devices.device import DeviceKind

#: The driver shows one file davinciN for each NPU here.
DEVICE_FOLDER = Path("/dev")


def _count() -> int:
    names = (path.name for path in DEVICE_FOLDER.glob("davinci*"))
    return sum(1 for name in names if re.fullmatch(r"davinci\d+", name))


def _obstacle() -> str | None:
    if importlib.util.find_spec("torch_npu") is None:
        return "torch_npu is not installed (pip install 'hidream-server[npu]')"
    return None


def _environment(devices: Sequence[int]) -> Mapping[str, str]:
    """Ascending order, or the runtime sees no device at all."""
    return {"ASCEND_RT_VISIBLE_DEVICES": ",".join(str(device) for device in sorted(devices))}


NPU = DeviceKind(
    name="npu",
    is_accelerator=True,
    extension="torch_npu",
    dtype="bfloat16",
    dtype_bytes=2,
    backend="hccl",
    expert_product="npu_grouped_matmul",
    count=_count,
    obstacle=_obstacle,
    environment=_environment,
)
