"""What the vendors' tools say of memory and health, and nothing where they say nothing."""

import pytest

from hidream_server.devices import tools
from hidream_server.devices.cuda import CUDA
from hidream_server.devices.npu import NPU

NPU_SMI = """\tNPU ID                         : 0
\tChip Count                     : 1
\tDDR Capacity(MB)               : 0
\tHBM Capacity(MB)               : 65536
"""


NPU_SMI_MAP = """\tNPU ID          Chip ID         Chip Logic ID   Chip Name
\t4               0               0               Ascend 910B
\t4               1               -               Mcu
\t5               0               1               Ascend 910B
\t5               1               2               Ascend 910B
"""


@pytest.fixture
def says(monkeypatch):
    """Return a function that says what every tool prints from now on."""

    def says(text: str | None, table: str = "") -> list[tuple[str, ...]]:
        asked: list[tuple[str, ...]] = []

        def ask(*command: str) -> str | None:
            if command[-1] == "-m":
                return table
            asked.append(command)
            return text

        for module in ("cuda", "npu"):
            monkeypatch.setattr(f"hidream_server.devices.{module}.ask", ask)
        return asked

    return says


def test_the_smallest_gpu_counts(says, monkeypatch):
    monkeypatch.setattr("hidream_server.devices.cuda._devices", lambda: ["3", "5", "7"])
    asked = says("81559\n40960\n")
    assert CUDA.memory((0, 2)) == 40960 * 2**20
    assert asked[0][-1] == "3,7"


def test_an_npu_has_its_high_bandwidth_memory(says):
    asked = says(NPU_SMI)
    assert NPU.memory((0, 1)) == 65536 * 2**20
    assert [command[-4:] for command in asked] == [("-i", "0", "-c", "0"), ("-i", "1", "-c", "0")]


def test_npus_are_asked_for_by_card_and_chip(says):
    asked = says(NPU_SMI, NPU_SMI_MAP)
    NPU.memory((0, 2))
    assert [command[-4:] for command in asked] == [("-i", "4", "-c", "0"), ("-i", "5", "-c", "1")]


def test_a_tool_that_does_not_answer_is_not_asked_again(says):
    asked = says(None)
    assert NPU.memory((0, 1, 2)) is None
    assert len(asked) == 1


@pytest.mark.parametrize("kind", [CUDA, NPU])
def test_a_tool_that_says_nothing_is_no_fault(says, kind, monkeypatch):
    monkeypatch.setattr("hidream_server.devices.cuda._devices", lambda: ["0"])
    says("No devices were found")
    assert kind.memory((0,)) is None
    assert kind.complaints((0,)) == []


@pytest.mark.parametrize(("health", "count"), [("OK", 0), ("Alarm", 2), ("Critical", 2)])
def test_an_npu_that_is_not_well_is_complained_of(says, health, count):
    says(f"\tHealth Status                  : {health}\n\tError Code : NA\n")
    found = NPU.complaints((0, 1))
    assert found == [f"npu-smi says of npu {n}: health {health}." for n in range(count)]


def test_memory_errors_of_a_gpu_are_complained_of(says, monkeypatch):
    monkeypatch.setattr("hidream_server.devices.cuda._devices", lambda: ["3", "5", "7"])
    says("0\n[N/A]\n12\n")
    [found] = CUDA.complaints((0, 1, 2))
    assert "12 uncorrected memory errors of cuda 2" in found


def test_a_tool_that_is_absent_or_hangs_or_fails_says_nothing():
    assert tools.ask("hidream-no-such-tool") is None
    assert tools.ask("false") is None


def test_a_tool_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(tools, "_PATIENCE_S", 0.05)
    assert tools.ask("sleep", "5") is None


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("9.0\n9.0\n", None),
        ("9.0\n12.0\n", "cuda 2 has compute capability 12.0, and it takes 9.0"),
        ("9.0\n8.9\n", "cuda 2 has compute capability 8.9, and it takes 9.0"),
        ("[N/A]\n", None),
        (None, None),
    ],
)
def test_gpus_that_cannot_scale_rows_of_fp8_are_known(says, monkeypatch, said, found):
    monkeypatch.setattr("hidream_server.devices.cuda._devices", lambda: ["3", "5", "7"])
    says(said)
    assert CUDA.fp8_obstacle((0, 2)) == found
