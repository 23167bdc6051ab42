"""Reads a model directory and reports every problem at once, each with its path.

No tensor is read, so a 60 GB checkpoint takes milliseconds.
"""

import json
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from hidream_server.demo import DEMO_MODEL_PATH
from hidream_server.errors import Finding, ModelDirectoryError
from hidream_server.model_directory.checks import Dimensions, check_dimensions, check_weights
from hidream_server.model_directory.components import (
    CLIP_G,
    CLIP_L,
    LLAMA,
    SCHEDULER,
    T5,
    TOKENIZER_FILES,
    TRANSFORMER,
    VAE,
    WEIGHTED,
    ComponentKind,
)
from hidream_server.model_directory.configs import (
    ClipConfig,
    Config,
    LlamaConfig,
    SchedulerConfig,
    T5Config,
    TransformerConfig,
    VaeConfig,
)
from hidream_server.model_directory.description import Component, ModelDescription, Variant
from hidream_server.model_directory.safetensors_header import (
    TensorEntry,
    UnreadableWeightsError,
    read_header,
)

T = TypeVar("T", bound=msgspec.Struct)

#: Between the shifts of Fast (3) and Dev (6).
_DEV_SHIFT = 4.5


class ShardIndex(msgspec.Struct):
    """The file that says in which shard each tensor is."""

    weight_map: Annotated[dict[str, str], msgspec.Meta(min_length=1)]


def describe(path: Path, extra_path: Path | None) -> ModelDescription:
    """Return what this directory is; raise ModelDirectoryError with every problem found."""
    try:
        is_empty = not any(path.iterdir())
    except OSError as error:
        finding = Finding(str(path), f"cannot be read: {error.strerror}")
        raise ModelDirectoryError([finding]) from error
    if is_empty:
        raise ModelDirectoryError([Finding(str(path), "is an empty folder: no model is in it")])
    reading = _Reading(path, extra_path)
    reading.read()
    if reading.findings:
        raise ModelDirectoryError(reading.findings)
    transformer = reading.config(TRANSFORMER, TransformerConfig)
    scheduler = reading.config(SCHEDULER, SchedulerConfig)
    levels = len(reading.config(VAE, VaeConfig).block_out_channels)
    max_height, max_width = transformer.max_resolution
    return ModelDescription(
        name=path.name,
        path=path,
        extra_path=None if reading.llama_inside else extra_path,
        variant=_variant(scheduler),
        sampler=scheduler.class_name,
        is_demo=path.resolve() == DEMO_MODEL_PATH,
        size_multiple=transformer.patch_size * 2 ** (levels - 1),
        max_image_tokens=max_height * max_width // transformer.patch_size**2,
        transformer=transformer,
        components=tuple(reading.component(kind) for kind in WEIGHTED),
    )


def _variant(scheduler: SchedulerConfig) -> Variant:
    """Full samples with UniPC; Dev and Fast differ in their shift."""
    if scheduler.class_name == "UniPCMultistepScheduler":
        return Variant.FULL
    return Variant.DEV if scheduler.shift > _DEV_SHIFT else Variant.FAST


class _Reading:
    """One pass over a directory: collects configs, weight headers and findings."""

    def __init__(self, path: Path, extra_path: Path | None) -> None:
        self._path = path
        self._extra_path = extra_path
        self._configs: dict[str, Config] = {}
        self._weights: dict[str, dict[str, TensorEntry]] = {}
        self._files: dict[str, list[Path]] = {}
        self.findings: list[Finding] = []
        self.llama_inside = (path / LLAMA.name).is_dir()

    def read(self) -> None:
        self._read_model_index()
        for kind in (*WEIGHTED, SCHEDULER):
            self._read_config(kind)
        for kind in WEIGHTED:
            if kind.name in self._configs:
                self._read_weights(kind)
        for name, alternatives in TOKENIZER_FILES.items():
            self._check_tokenizer(name, alternatives)
        if all(kind.name in self._configs for kind in WEIGHTED):
            self._check_dimensions()

    def config(self, kind: ComponentKind, config_type: type[T]) -> T:
        config = self._configs[kind.name]
        assert isinstance(config, config_type)
        return config

    def component(self, kind: ComponentKind) -> Component:
        parameters = sum(entry.parameters for entry in self._weights[kind.name].values())
        files = tuple(self._files[kind.name])
        return Component(kind.name, kind.classes[0], self._folder(kind.name), files, parameters)

    def _folder(self, name: str) -> Path:
        """Return where a component lives; the Llama has its own directory as a rule."""
        if name in (LLAMA.name, "tokenizer_4") and not self.llama_inside:
            return self._extra_path or self._path / name
        return self._path / name

    def _report(self, path: Path, problem: str) -> None:
        self.findings.append(Finding(str(path), problem))

    def _read_json(self, path: Path) -> dict[str, Any] | None:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self._report(path, "is missing")
        except (OSError, ValueError, RecursionError) as error:
            self._report(path, f"cannot be read: {error}")
        else:
            if isinstance(content, dict):
                return content
            self._report(path, "is not a JSON object")
        return None

    def _convert(self, path: Path, content: dict[str, Any], target: type[T]) -> T | None:
        """Return what a JSON file says as a type; report a value that is absent or odd."""
        try:
            return msgspec.convert(content, target)
        except msgspec.ValidationError as error:
            self._report(path, str(error))
            return None

    def _read_model_index(self) -> None:
        path = self._path / "model_index.json"
        index = self._read_json(path)
        if index is not None and index.get("_class_name") != "HiDreamImagePipeline":
            self._report(path, f"is for {index.get('_class_name')}, not HiDreamImagePipeline")

    def _read_config(self, kind: ComponentKind) -> None:
        folder = self._folder(kind.name)
        if not folder.is_dir():
            hint = "; give the Llama directory with -e" if kind is LLAMA else ""
            self._report(folder, f"is missing{hint}")
            return
        path = folder / kind.config_file
        content = self._read_json(path)
        if content is None:
            return
        found = _class_of(content)
        if found is not None and found not in kind.classes:
            self._report(path, f"is a {found}, not a {' or '.join(kind.classes)}")
        elif (config := self._convert(path, content, kind.config)) is not None:
            self._configs[kind.name] = config

    def _read_weights(self, kind: ComponentKind) -> None:
        folder, known = self._folder(kind.name), len(self.findings)
        weights: dict[str, TensorEntry] = {}
        self._files[kind.name] = self._shards(folder, str(kind.weights))
        for shard in self._files[kind.name]:
            try:
                weights |= read_header(shard)
            except FileNotFoundError:
                self._report(shard, "is missing")
            except (UnreadableWeightsError, OSError) as error:
                self._report(shard, str(error))
        self._weights[kind.name] = weights
        if len(self.findings) == known:
            self.findings += check_weights(kind, folder, self._configs[kind.name], weights)

    def _shards(self, folder: Path, stem: str) -> list[Path]:
        path = folder / f"{stem}.safetensors.index.json"
        if not path.exists():
            return [folder / f"{stem}.safetensors"]
        content = self._read_json(path)
        index = None if content is None else self._convert(path, content, ShardIndex)
        return [folder / name for name in sorted(set(index.weight_map.values()))] if index else []

    def _check_tokenizer(self, name: str, alternatives: tuple[tuple[str, ...], ...]) -> None:
        folder = self._folder(name)
        if any(all((folder / file).is_file() for file in files) for files in alternatives):
            return
        wanted = " or ".join(" and ".join(files) for files in alternatives)
        self._report(folder, f"has no tokenizer: {wanted} is missing")

    def _check_dimensions(self) -> None:
        dimensions = Dimensions(
            transformer=self.config(TRANSFORMER, TransformerConfig),
            vae=self.config(VAE, VaeConfig),
            clips=(self.config(CLIP_L, ClipConfig), self.config(CLIP_G, ClipConfig)),
            t5=self.config(T5, T5Config),
            llama=self.config(LLAMA, LlamaConfig),
        )
        self.findings += check_dimensions(
            dimensions,
            self._folder(TRANSFORMER.name) / TRANSFORMER.config_file,
            self._folder(LLAMA.name) / LLAMA.config_file,
        )


def _class_of(content: dict[str, Any]) -> object:
    """Return the class a config is for: diffusers and transformers say it differently."""
    architectures = content.get("architectures")
    if isinstance(architectures, list):
        architectures = next(iter(architectures), None)
    return content.get("_class_name") or architectures
