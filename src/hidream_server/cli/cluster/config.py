"""The file that says what a cluster serves, read and checked; knows nothing of Ray.

Whether models and devices are there is found out where the work is done.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from hidream_server.errors import ConfigurationError, PathMissingError
from hidream_server.settings import Settings, load_settings

#: What Ray calls devices, by what we call them; of others it does not know.
_RESOURCES = {"npu": "NPU", "cuda": "GPU"}

#: Set by the fields of a deployment, or without a meaning there.
_NO_OPTIONS = {
    *("database_url", "results", "data_dir", "log_dir", "model_path", "extra_model_path"),
    *("device_type", "devices", "device_count", "layout", "replicas", "host", "port"),
    *("nnodes", "node_rank", "rdzv_endpoint"),
}


def _check_options(options: dict[str, Any]) -> dict[str, Any]:
    for name in options:
        if name in _NO_OPTIONS:
            raise ValueError(f"{name!r} has a field of its own, or none")
        if name not in Settings.model_fields:
            raise ValueError(f"there is no option {name!r}")
    _take(options)
    return options


def _take(options: Mapping[str, Any]) -> None:
    """Refuse what `hidream worker` would refuse, as pydantic wants it: then the field is named."""
    try:
        load_settings(options, environ={})
    except ConfigurationError as error:
        raise ValueError(str(error).removesuffix(".")) from error


Model = TypeVar("Model", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Target(_Strict):
    """One deployment: what each of its replicas serves, on what, and how many there are."""

    name: Annotated[str, Field(pattern="^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=40)]
    model: Path | None = None
    extra_model: Path | None = None
    device_type: Annotated[str, Field(pattern="^(npu|cuda|cpu)$")]
    #: For each replica, all on one machine.
    devices: Annotated[int, Field(ge=1)] = 1
    layout: str | None = None
    min_replicas: Annotated[int, Field(ge=1)] = 1
    #: None: as many as at least.
    max_replicas: Annotated[int, Field(ge=1)] | None = None
    #: Open work, in rows × steps × megapixels, for each of which there is to be a replica.
    work_per_replica: Annotated[float, Field(gt=0)] = 1000.0
    #: So long there has to be more, or less, work before there are more replicas, or fewer.
    upscale_delay_s: Annotated[float, Field(ge=0)] = 30.0
    downscale_delay_s: Annotated[float, Field(ge=0)] = 600.0
    cpus_per_device: Annotated[float, Field(gt=0)] = 1.0
    #: Options of hidream worker, by name.
    options: Annotated[dict[str, Any], AfterValidator(_check_options)] = {}

    @model_validator(mode="after")
    def _check_bounds(self) -> "Target":
        if self.most < self.min_replicas:
            raise ValueError(f"max_replicas is less than min_replicas, {self.min_replicas}")
        return self

    @property
    def most(self) -> int:
        return self.min_replicas if self.max_replicas is None else self.max_replicas

    @property
    def rank_bundles(self) -> list[dict[str, float]]:
        """What each rank needs of a machine, in Ray's words."""
        device = {_RESOURCES[self.device_type]: 1.0} if self.device_type in _RESOURCES else {}
        return [{"CPU": self.cpus_per_device, **device}] * self.devices


class Shared(_Strict):
    """What all replicas of all deployments share; None: what their machines' environment says."""

    database: Annotated[str, Field(pattern="^postgresql://")] | None = None
    results: str | None = None
    #: On each machine, with a folder for each replica.
    data_dir: Path = Path("/var/lib/hidream")

    @field_validator("database")
    @classmethod
    def _check_database(cls, value: str | None) -> str | None:
        """What is said here Ray writes into its logs."""
        if value is not None and urlsplit(value).password is not None:
            raise ValueError(
                "no password may be here: give the machines of the cluster the address as"
                " HIDREAM_DATABASE_URL, and leave it out"
            )
        return value

    @field_validator("results")
    @classmethod
    def _check_results(cls, value: str | None) -> str | None:
        _take({"results": value})
        return value


class ClusterFile(Shared):
    """All of a file."""

    deployments: Annotated[list[Target], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_names(self) -> "ClusterFile":
        names = [target.name for target in self.deployments]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two deployments are called {twice[0]!r}")
        return self


def read_cluster_file(path: Path) -> ClusterFile:
    """Return what a file says; raise ConfigurationError, in one sentence that names the field."""
    if not path.is_file():
        raise PathMissingError(f"The cluster file {path} does not exist.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise ConfigurationError(f"The cluster file {path} is not valid YAML: {said}.") from error
    return checked(ClusterFile, values, str(path))


def checked(kind: type[Model], values: Any, where: str) -> Model:
    """Return the values as a model; raise ConfigurationError, naming the first wrong field."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = "".join(
            f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]
        )
        raise ConfigurationError(
            f"{where}: {field.lstrip('.') or 'it'}: {first['msg'].removeprefix('Value error, ')}."
        ) from error


def settings_flags(shared: Shared, target: Target, data_dir: Path) -> Mapping[str, Any]:
    """Return the options with which a replica does the work of `hidream worker`."""
    return {
        **target.options,
        "database_url": shared.database,
        "results": shared.results,
        "data_dir": data_dir,
        "log_dir": data_dir / "logs",
        "model_path": target.model,
        "extra_model_path": target.extra_model,
        "device_type": target.device_type,
        "layout": target.layout,
    }
