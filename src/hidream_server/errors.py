"""Every error this project raises on purpose, in one tree.

The docstring of a class is its message unless one is given, so each class says something useful.
Which HTTP status or exit code an error becomes is decided at the edges (api, cli), not here.
"""

import re
from dataclasses import dataclass


class HiDreamError(Exception):
    """Something went wrong in HiDream Server."""

    #: After so many seconds another try may succeed; None where none will.
    retry_after_s: float | None = None

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())

    @property
    def code(self) -> str:
        """The stable snake-case name of this error, e.g. `task_not_found`."""
        name = type(self).__name__.removesuffix("Error")
        return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class ConfigurationError(HiDreamError):
    """The service cannot start with these options."""


class PathMissingError(ConfigurationError):
    """A path that was given does not exist."""


class FolderUnwritableError(ConfigurationError):
    """A folder that the service writes into cannot be written."""


class ProjectPathError(ConfigurationError):
    """The project path is not a folder with an inference.py."""


class DeviceListError(ConfigurationError):
    """The device list cannot be read."""


class DeviceUnavailableError(ConfigurationError):
    """The devices that were asked for are not on this machine."""


class LayoutUnavailableError(ConfigurationError):
    """No layout serves this number of devices."""


class NodesError(ConfigurationError):
    """These machines cannot have a worker group together."""


class StepCacheError(ConfigurationError):
    """Steps cannot be reused with what is to be served."""


class Fp8Error(ConfigurationError):
    """What is to be served cannot be computed in fp8."""


class PortTakenError(ConfigurationError):
    """The port is already in use."""


class TlsFilesError(ConfigurationError):
    """HTTPS cannot be served with these files."""


class NotSharedError(ConfigurationError):
    """Servers and workers need --database-url and --results, which they share."""


class NoWorkersError(ConfigurationError):
    """No worker has joined this database yet: start one with hidream worker."""


class AlreadyRunningError(ConfigurationError):
    """Another server owns this data directory."""


class NotRunningError(ConfigurationError):
    """No server runs on this data directory."""


class KeyNotFoundError(HiDreamError):
    """There is no such API key."""


class TorchMissingError(ConfigurationError):
    """PyTorch is not installed in this environment."""


class DownloadError(HiDreamError):
    """A published model could not be fetched."""


class TracingMissingError(ConfigurationError):
    """What sends traces is not installed in this environment."""


class ClusterError(ConfigurationError):
    """The Ray cluster does not do what it was asked to."""


class DatabaseVersionError(ConfigurationError):
    """The task database was written by a newer version of this server."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with a model directory, and where."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class ModelDirectoryError(ConfigurationError):
    """The model directory cannot be served."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings
        lines = "; ".join(str(finding) for finding in findings)
        super().__init__(f"The model cannot be served, {len(findings)} problem(s): {lines}")


class RequestError(HiDreamError):
    """The request cannot be served."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One field of a request that is not acceptable: its name, its value, what is allowed."""

    field: str
    value: object
    allowed: str


class InvalidRequestError(RequestError):
    """The request has fields that are not acceptable."""

    def __init__(self, problems: list[FieldProblem]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{p.field}: {p.allowed}" for p in problems))


class MalformedRequestError(RequestError):
    """This is not HTTP/1.1."""


class HeadTooLargeError(RequestError):
    """The request line and the headers are larger than this server takes."""


class BodyTooLargeError(RequestError):
    """The body is larger than this server takes."""


class UnauthorizedError(RequestError):
    """This takes an API key, as Authorization: Bearer KEY or X-API-Key: KEY."""


class ForbiddenError(RequestError):
    """This takes an API key with the scope admin."""


class ModelNotFoundError(RequestError):
    """This server does not serve a model of this name."""


class NotSupportedError(RequestError):
    """This is not supported by the model."""


class FilesFullError(RequestError):
    """You have as many files uploaded as you may; delete some."""


class TaskNotFoundError(RequestError):
    """There is no task with this id."""


class BatchFileNotFoundError(RequestError):
    """There is no such file."""


class BatchNotFoundError(RequestError):
    """There is no such batch."""


class BatchEndedError(RequestError):
    """The batch has ended; it can no longer be cancelled."""


class TaskNotFinishedError(RequestError):
    """The task has no picture yet."""


class TaskFailedError(RequestError):
    """The task failed; it has no picture."""


class TaskCancelledError(RequestError):
    """The task was cancelled; it has no picture."""


class TaskNotRetryableError(RequestError):
    """Only a task that failed or was cancelled can be tried again."""


class TaskEndedError(RequestError):
    """The task has ended; it can no longer be cancelled."""


class PreviewNotFoundError(RequestError):
    """There is no preview of this image now."""


class PictureNotFoundError(RequestError):
    """There is no such picture."""


class RequestReusedError(RequestError):
    """This name was given to another request before."""


class PictureExpiredError(RequestError):
    """The pictures of this task were deleted: they were kept as long as this server keeps any."""


class OverloadError(RequestError):
    """There is too much work already."""

    def __init__(
        self, message: str | None = None, retry_after_s: float = 1.0, over: int = 0
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        #: So many tasks too many.
        self.over = over


class QueueFullError(OverloadError):
    """The queue has no place."""


class ClientQueueFullError(OverloadError):
    """This client has as many tasks queued as it may."""


class RateLimitedError(OverloadError):
    """This client has asked for as many images as it may in a minute."""


class TooManyConnectionsError(OverloadError):
    """There are as many connections as this server takes."""


class StoppingError(HiDreamError):
    """The server is stopping; the next one will answer."""

    retry_after_s = 5.0


class StoreUnavailableError(HiDreamError):
    """The task database does not answer; nothing is lost, try again soon."""

    retry_after_s = 2.0


class ResultsUnavailableError(StoreUnavailableError):
    """What the pictures are kept in does not answer; nothing is lost, try again soon."""


class WebhookSecretError(HiDreamError):
    """A webhook secret is whsec_ followed by 24 to 64 bytes in base64."""


class WebhookAddressError(HiDreamError):
    """A webhook may not go to this address."""

    def __init__(self, allowed: str) -> None:
        #: What would be right, for a FieldProblem.
        self.allowed = allowed
        super().__init__(f"A webhook may not go to this address; allowed is {allowed}.")


class DeliveryError(HiDreamError):
    """A webhook was not delivered."""

    def __init__(self, reason: str, final: bool = False) -> None:
        super().__init__(reason)
        #: Trying again is useless.
        self.final = final


class EngineError(HiDreamError):
    """The worker group failed."""


class ProtocolError(EngineError):
    """The other side of the control socket said something that is not in the protocol."""


class GroupStartError(EngineError):
    """The worker group could not be started."""


class GroupLostError(EngineError):
    """The worker group ended while it was needed."""


class SamplingError(EngineError):
    """A sampler failed in the middle of a step."""


class StepTimeoutError(EngineError):
    """No step was finished within the step deadline."""
