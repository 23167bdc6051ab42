"""What the rest of the project may know of a kind of device."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceKind:
    """One kind of device, as names that torch understands."""

    #: The name on the command line and in torch.device().
    name: str
    #: It has memory and a queue of work of its own.
    is_accelerator: bool
    #: Module that registers the device with torch, None if torch has it built in.
    extension: str | None
    #: torch dtype that weights are computed in.
    dtype: str
    dtype_bytes: int
    #: torch's collectives between such devices.
    backend: str
    #: How a token's experts are computed and summed; a name of model.mixture.
    mixture: str
    #: How many there are on this machine, without importing torch.
    count: Callable[[], int]
    #: Why torch cannot use them here, None if it can.
    obstacle: Callable[[], str | None]
    #: Environment of a rank that may use these devices only; so many are in use by all groups.
    environment: Callable[[Sequence[int], int], Mapping[str, str]]
    #: How far ranks give way to other processes, which answer while they compute.
    niceness: int = 0
    #: So many ranks are allowed even if there are fewer: they share what there is.
    sharing: int = 0
    #: Bytes of the smallest of these devices' memories, None where nobody says.
    memory: Callable[[Sequence[int]], int | None] = lambda _devices: None
    #: Why these devices do not multiply in fp8, None if they do as far as one knows.
    fp8_obstacle: Callable[[Sequence[int]], str | None] = lambda _devices: None
    #: The driver's version, None where nobody says.
    driver: Callable[[], str | None] = lambda: None
    #: What the driver's own tool says against these devices, each in one sentence.
    complaints: Callable[[Sequence[int]], list[str]] = lambda _devices: []
    #: What is odd about the environment that the user exported, each in one sentence.
    doubts: Callable[[Mapping[str, str]], list[str]] = lambda _environ: []
