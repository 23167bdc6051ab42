"""Every option, declared once: name, type, default, limits, help, short flag, environment names.

The command line, the environment, the config file and the documentation all derive from this
class. It checks single values; whether paths, devices and ports exist is checked at start-up.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hidream_server.errors import ConfigurationError, DeviceListError, PathMissingError

DEFAULT_MODEL_PATH = Path("/data/HiDream-I1-Full")
DEFAULT_EXTRA_MODEL_PATH = Path("/data/Llama-3.1-8B-Instruct")


def _option(
    default: Any, help: str, short: str = "", env: tuple[str, ...] = (), **limits: Any
) -> Any:
    """Declare one option; `env` lists names it has beside HIDREAM_<NAME>, oldest habit last."""
    extra: dict[str, Any] = {"short": short, "env": list(env)}
    return Field(default, description=help, json_schema_extra=extra, **limits)


def _parse_devices(value: object) -> object:
    """Read "0,1,2,3" as (0, 1, 2, 3); the ids must be whole numbers, each once."""
    if isinstance(value, list):
        value = ",".join(str(part) for part in value)
    if not isinstance(value, str):
        return value
    if not re.fullmatch(r"\d+(,\d+)*", value.strip()):
        raise DeviceListError(
            f"The device list {value!r} cannot be read: give ids joined by commas, like 0,1,2,3."
        )
    ids = tuple(int(part) for part in value.strip().split(","))
    twice = sorted({device for device in ids if ids.count(device) > 1})
    if twice:
        raise DeviceListError(f"The device list {value!r} names device {twice[0]} twice.")
    return ids


DeviceIds = Annotated[tuple[int, ...], BeforeValidator(_parse_devices)]


def _check_addresses(value: str) -> str:
    """Refuse what uvicorn would take for a host that never comes."""
    for part in value.split(",") if value != "*" else ():
        try:
            ip_network(part.strip())
        except ValueError as error:
            raise ConfigurationError(
                f"The list of proxies {value!r} cannot be read: {part.strip()!r} is no address and"
                " no network; give some joined by commas, like 10.0.0.1,172.16.0.0/12, or *."
            ) from error
    return value


Addresses = Annotated[str, AfterValidator(_check_addresses)]


def _check_place(value: str) -> str:
    """Refuse what looks like an address and is none, or has something secret in it."""
    if "://" in value and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+(/[A-Za-z0-9._-]+)*/?", value):
        raise ConfigurationError(
            "--results cannot be read: give a folder, or s3://bucket/prefix; credentials and the"
            " endpoint come from the environment, as AWS_ACCESS_KEY_ID and so on."
        )
    return value


ResultsPlace = Annotated[str, AfterValidator(_check_place)]


class Settings(BaseModel):
    """All options of the server. Sizes in pixels or MiB, times in seconds, as the names say."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model_path: Path | None = _option(
        None, f"HiDream-I1 directory (default {DEFAULT_MODEL_PATH}, else the demo model)", "m"
    )
    extra_model_path: Path | None = _option(
        None, f"Llama-3.1-8B-Instruct directory (default {DEFAULT_EXTRA_MODEL_PATH})", "e"
    )
    project_path: Path | None = _option(
        None, "HiDream-I1 project folder that holds inference.py, for --executor project", "p"
    )
    executor: str = _option(
        "resident",
        "resident, which keeps the model loaded; or project, which starts the project folder's"
        " inference.py for each task as the first version did",
        pattern="^(resident|project)$",
    )
    devices: DeviceIds | None = _option(
        None,
        "device ids joined by commas (default 0)",
        "d",
        ("ASCEND_RT_VISIBLE_DEVICES",),
    )
    device_count: int | None = _option(
        None,
        "number of devices (default: from --devices)",
        "c",
        ("DEVICE_COUNT",),
        ge=1,
    )
    device_type: str | None = _option(
        None,
        "npu, cuda or cpu (default: npu where there is one, else cuda, else cpu)",
        "t",
        ("DEVICE_TYPE",),
        pattern="^(npu|cuda|cpu)$",
    )
    layout: str | None = _option(
        None,
        "how the devices split the work: cfg, sp, tp and ep with their sizes, like cfg2-sp4 or"
        " tp4-ep2; or fast (default: tp and ep by the number of devices)",
        pattern="^(fast|(cfg|sp|tp|ep)[0-9]+(-(cfg|sp|tp|ep)[0-9]+)*)$",
    )
    tp_size: int | None = _option(
        None, "tensor parallel size (default: by the number of devices)", ge=1
    )
    ep_size: int | None = _option(
        None, "expert parallel size (default: by the number of devices)", ge=1
    )
    replicas: int = _option(
        1,
        "worker groups, each with its share of the devices and a picture of its own; 0 for a server"
        " whose work is done by hidream worker, on this or other machines",
        ge=0,
    )
    nnodes: int = _option(
        1,
        "machines that a worker group lies on; each runs hidream worker with the same --nnodes,"
        " --rdzv-endpoint and number of devices",
        ge=1,
    )
    node_rank: int = _option(
        0, "this machine's number among them, from 0, where the supervisor is", ge=0
    )
    rdzv_endpoint: str | None = _option(
        None,
        "where they meet: an address of the first machine and a free port, as HOST:PORT",
        pattern=r"^(\[[0-9A-Fa-f:]+\]|[^:\[\]]+):[0-9]{1,5}$",
    )
    offload_encoders: str = _option(
        "auto",
        "whether text encoders wait in the host's memory between prompts: auto, for those that"
        " the device has no room for; always; or never",
        pattern="^(auto|always|never)$",
    )
    port: int = _option(8088, "port to listen on", ge=1, le=65535)
    host: str = _option("0.0.0.0", "address to listen on")
    api_base_url: str | None = _option(
        None,
        "address that clients use, for the links in answers (default: from each request)",
        env=("API_BASE_URL",),
        pattern="^https?://[^/]+",
    )
    root_path: str | None = _option(
        None,
        "path under which a proxy serves this server, like /hidream, whether it strips it or not",
        pattern=r"^(/[A-Za-z0-9._~-]+)+$",
    )
    trusted_proxies: Addresses | None = _option(
        None,
        "proxies whose X-Forwarded-For and X-Forwarded-Proto are believed: addresses or networks"
        " joined by commas, or * (default none)",
    )
    cors_origins: str | None = _option(
        None,
        "origins whose pages may call this server from a browser, like https://app.example, joined"
        " by commas, or * (default none)",
        pattern=r"^(\*|https?://[a-z0-9.:\[\]-]+(,https?://[a-z0-9.:\[\]-]+)*)$",
    )
    ssl_certfile: Path | None = _option(
        None, "PEM file with the certificate and its chain, to serve HTTPS"
    )
    ssl_keyfile: Path | None = _option(
        None, "PEM file with the certificate's private key, without a passphrase"
    )
    max_connections: int = _option(
        10000, "most connections at once, above which new ones get 503; 0 for no bound", ge=0
    )
    max_body_mb: int = _option(16, "largest body of a request, in MiB", ge=1)
    data_dir: Path = _option(Path("var"), "folder for the task database and the pictures")
    results: ResultsPlace | None = _option(
        None,
        "where pictures, previews and checkpoints are kept: a folder, or s3://bucket/prefix, which"
        " needs the s3 extra (default: in the data folder)",
    )
    database_url: str | None = _option(
        None,
        "task database, like postgresql://user:password@host/name (default: a SQLite file in the"
        " data folder)",
        pattern="^postgresql://",
    )
    log_dir: Path = _option(Path("logs"), "folder for the log files")
    log_level: str = _option(
        "INFO", "DEBUG, INFO, WARNING or ERROR", pattern="^(DEBUG|INFO|WARNING|ERROR)$"
    )
    log_format: str = _option(
        "text", "text, or json for one JSON object a line", pattern="^(text|json)$"
    )
    log_file_mb: int = _option(20, "size of one log file before it is rotated, in MiB", ge=1)
    otlp_endpoint: str | None = _option(
        None,
        "OpenTelemetry collector that traces are sent to, like http://localhost:4318; needs the"
        " otel extra (default: no traces)",
        pattern="^https?://[^/]+",
    )
    max_prompt_chars: int = _option(4000, "longest prompt accepted, in characters", ge=1)
    model_aliases: str | None = _option(
        None,
        "names that the model also has for OpenAI's clients, joined by commas, like"
        " gpt-image-1,dall-e-3",
        pattern="^[^,]+(,[^,]+)*$",
    )
    link_lifetime_s: float = _option(
        3600.0,
        "how long a link to a picture opens it without a key, where there are keys, in seconds",
        gt=0,
    )
    max_files_mb: int = _option(
        256, "most room for the uploaded files of one client, in MiB; 0 for no bound", ge=0
    )
    max_inference_steps: int = _option(200, "most denoising steps of a task", ge=1)
    max_guidance_scale: float = _option(30.0, "largest guidance scale", ge=1)
    max_images_per_prompt: int = _option(8, "most images of a task", ge=1)
    max_batch_requests: int = _option(64, "most requests of one batch_submit", ge=1)
    max_queue_length: int = _option(
        1000, "most tasks queued, above which submissions are refused; 0 for no bound", ge=0
    )
    max_queued_per_client: int = _option(
        0, "most tasks that one client may have queued; 0 for no bound", ge=0
    )
    max_running_per_client: int = _option(
        0, "most tasks of one client that run at once; 0 for no bound", ge=0
    )
    max_images_per_minute: int = _option(
        0, "most images that one client may ask for in a minute; 0 for no bound", ge=0
    )
    queue_timeout_s: float = _option(
        0.0, "a task not started after so long is failed, in seconds; 0 for never", ge=0
    )
    run_timeout_s: float = _option(
        0.0, "a task running for so long is failed, in seconds; 0 for never", ge=0
    )
    keep_pictures_days: float = _option(
        30.0, "how long pictures are kept, in days; 0 for ever", ge=0
    )
    keep_pictures_gb: float = _option(
        50.0, "most room for pictures, beyond which the oldest go, in GiB; 0 for no bound", ge=0
    )
    keep_tasks_days: float = _option(
        90.0,
        "how long tasks are known after their end, and never shorter than their pictures, in days;"
        " 0 for ever",
        ge=0,
    )
    webhook_allow_private: bool = _option(
        False, "let webhooks go to this machine and to private networks, not to public hosts only"
    )
    max_running: int = _option(
        8,
        "tasks that a worker group has on hand at once; it changes between them at every step, so"
        " that short ones pass long ones",
        ge=1,
    )
    max_rows: int = _option(
        8,
        "most rows that share a step (a guided image has two); how many do is found out at the"
        " first start of a model, by whether it saves time; with 1 every image has its steps to"
        " itself, and its bytes do not depend on company",
        ge=1,
        le=8,
    )
    compile: bool = _option(
        False,
        "compile the network's blocks when the model is loaded, which takes minutes and makes steps"
        " quicker",
    )
    step_cache: float = _option(
        0.0,
        "lossy: tasks with infer_type Performance take steps without computing them while the"
        " network's output is expected to have changed by less than this part of itself, like 0.05;"
        " not with a sampler that draws noise in each step, as Dev's and Fast's; 0 for never",
        ge=0,
        le=1,
    )
    fp8: bool = _option(
        False,
        "lossy: tasks with infer_type Performance multiply in fp8, on copies of the network's"
        " weights half the size, which are held beside them; not on NPUs, and only on GPUs of"
        " compute capability 9.0, like H100 and H200",
    )
    max_previews: int = _option(3, "most previews of each image of a task", ge=0)
    max_crashes: int = _option(3, "worker group crashes after which a task is failed", ge=1)
    drain_timeout_s: float = _option(
        30.0, "how long a stopping server lets running tasks finish, in seconds", ge=0
    )
    layout_tries: int = _option(
        2, "failures in a row after which a smaller layout is started", ge=1
    )
    layout_cool_down_s: float = _option(
        300.0, "how long a smaller layout serves before the larger one is tried again", ge=0
    )
    checkpoint_s: float = _option(
        5.0,
        "how often a running task is saved, so that after a crash or a restart it goes on from"
        " there, in seconds; 0 for never",
        ge=0,
    )
    step_timeout_s: float = _option(
        600.0, "a worker group that finishes no step for so long is restarted, in seconds", gt=0
    )
    load_timeout_s: float = _option(
        3600.0, "a worker group not ready after so long is restarted, in seconds", gt=0
    )
    prompt_cache_mb: int = _option(512, "device memory for cached prompt embeddings, in MiB", ge=0)

    @property
    def lossy(self) -> list[str]:
        """The options that make tasks for Performance less exact, by name."""
        return [name for name in ("fp8", "step_cache") if getattr(self, name)]


@dataclass(frozen=True, slots=True)
class Option:
    """One option as the command line and the documentation show it."""

    name: str
    short: str
    env: tuple[str, ...]
    default: Any
    help: str

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def flags(self) -> tuple[str, ...]:
        return (f"-{self.short}", self.flag) if self.short else (self.flag,)


def options() -> Iterator[Option]:
    """Yield every option in the order of its declaration."""
    for name, info in Settings.model_fields.items():
        extra = _extra(info)
        default = None if info.default is PydanticUndefined else info.default
        env = (f"HIDREAM_{name.upper()}", *extra["env"])
        yield Option(name, extra["short"], env, default, info.description or "")


def _extra(info: FieldInfo) -> dict[str, Any]:
    extra = info.json_schema_extra
    assert isinstance(extra, dict)
    return extra


def load_settings(
    flags: Mapping[str, Any],
    config_file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Merge flags over environment over config file over defaults.

    Raises ConfigurationError, in one sentence, for a value or a name that cannot be.
    """
    from_file = _read_config(config_file) if config_file else {}
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings.model_validate(from_file | _from_environment(environ) | given)
    except ValidationError as error:
        raise ConfigurationError(_sentence(error)) from error


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise PathMissingError(f"The config file {path} does not exist.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The config file {path} is not valid TOML: {error}.") from error
    # A file may write an option as the command line does, or as Python does.
    values = {name.replace("-", "_"): value for name, value in values.items()}
    unknown = sorted(values.keys() - Settings.model_fields.keys())
    if unknown:
        near = get_close_matches(unknown[0], Settings.model_fields, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "; see hidream serve --help."
        raise ConfigurationError(f"{path}: there is no option {unknown[0]!r}{hint}")
    return values


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for option in options():
        value = next((environ[name] for name in option.env if environ.get(name)), None)
        if value is not None:
            found[option.name] = value
    return found


def _sentence(error: ValidationError) -> str:
    """Say the first problem of a validation error as a person would."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else "settings"
    known = {option.name: option for option in options()}
    option = known[name]
    if first["type"] == "string_pattern_mismatch":
        return f"{option.flag} cannot be {first['input']!r}: it is {option.help}."
    return f"{option.flag} cannot be {first['input']!r}: {first['msg']} ({option.help})."
