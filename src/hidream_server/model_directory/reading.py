"""Reads a model directory and reports every problem at once, each with its path.

No tensor is read, so a 60 GB checkpoint takes milliseconds.
"""

import json
from pathlib import Path
from typing import Any

from hidream_server.demo import DEMO_MODEL_PATH
from hidream_server.errors import Finding, ModelDirectoryError
from hidream_server.model_directory.components import (
    CLIP_G,
    CLIP_L,
    INDEX_SUFFIX,
    LLAMA,
    SCHEDULER,
    T5,
    TOKENIZER_FILES,
    TRANSFORMER,
    VAE,
    WEIGHTED,
    ComponentKind,
)
from hidream_server.model_directory.description import Component, ModelDescription, Variant
from hidream_server.model_directory.safetensors_header import (
    TensorEntry,
    UnreadableWeightsError,
    read_header,
)
from hidream_server.model_directory.transformer_weights import expected_weights

Config = dict[str, Any]
Weights = dict[str, TensorEntry]

_MAX_NAMES_SHOWN = 3


def describe(path: Path, extra_path: Path | None) -> ModelDescription:
    """Return what this directory is; raise ModelDirectoryError with every problem found."""
    reading = _Reading(path, extra_path)
    reading.read()
    if reading.findings:
        raise ModelDirectoryError(reading.findings)
    transformer, vae = reading.configs["transformer"], reading.configs["vae"]
    patch = int(transformer["patch_size"])
    max_height, max_width = transformer["max_resolution"]
    return ModelDescription(
        path=path,
        extra_path=None if reading.llama_inside else extra_path,
        variant=_variant(reading.configs["scheduler"]),
        sampler=reading.configs["scheduler"]["_class_name"],
        is_demo=path.resolve() == DEMO_MODEL_PATH,
        size_multiple=patch * 2 ** (len(vae["block_out_channels"]) - 1),
        max_image_tokens=max_height * max_width // patch**2,
        components=tuple(
            Component(
                kind.name,
                kind.classes[0],
                reading.folder(kind.name),
                sum(entry.parameters for entry in reading.weights[kind.name].values()),
            )
            for kind in WEIGHTED
        ),
    )


def _variant(scheduler: Config) -> Variant:
    """Full samples with UniPC; Dev and Fast differ in their shift (6 and 3)."""
    if scheduler["_class_name"] == "UniPCMultistepScheduler":
        return Variant.FULL
    return Variant.DEV if float(scheduler.get("shift", 3.0)) > 4.5 else Variant.FAST


class _Reading:
    """One pass over a directory: collects configs, weight headers and findings."""

    def __init__(self, path: Path, extra_path: Path | None) -> None:
        self._path = path
        self._extra_path = extra_path
        self.findings: list[Finding] = []
        self.configs: dict[str, Config] = {}
        self.weights: dict[str, Weights] = {}
        self.llama_inside = (path / LLAMA.name).is_dir()

    def folder(self, name: str) -> Path:
        """Return where a component lives; the Llama has its own directory as a rule."""
        if name in ("text_encoder_4", "tokenizer_4") and not self.llama_inside:
            return self._extra_path or self._path / name
        return self._path / name

    def read(self) -> None:
        self._read_model_index()
        for kind in (*WEIGHTED, SCHEDULER):
            self._read_config(kind)
        for kind in WEIGHTED:
            if kind.name in self.configs:
                self._read_weights(kind)
        for name, alternatives in TOKENIZER_FILES.items():
            self._check_tokenizer(name, alternatives)
        self._check_dimensions()

    def _report(self, path: Path, problem: str) -> None:
        self.findings.append(Finding(str(path), problem))

    def _read_json(self, path: Path) -> Config | None:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self._report(path, "is missing")
        except (OSError, ValueError) as error:
            self._report(path, f"cannot be read: {error}")
        else:
            if isinstance(content, dict):
                return content
            self._report(path, "is not a JSON object")
        return None

    def _read_model_index(self) -> None:
        path = self._path / "model_index.json"
        index = self._read_json(path)
        if index is not None and index.get("_class_name") != "HiDreamImagePipeline":
            self._report(path, f"is for {index.get('_class_name')}, not HiDreamImagePipeline")

    def _read_config(self, kind: ComponentKind) -> None:
        folder = self.folder(kind.name)
        if not folder.is_dir():
            hint = "; give the Llama directory with -e" if kind is LLAMA else ""
            self._report(folder, f"is missing{hint}")
            return
        path = folder / ("scheduler_config.json" if kind is SCHEDULER else "config.json")
        config = self._read_json(path)
        if config is None:
            return
        found = config.get("_class_name") or next(iter(config.get("architectures") or []), None)
        if found is not None and found not in kind.classes:
            self._report(path, f"is a {found}, not a {' or '.join(kind.classes)}")
            return
        self.configs[kind.name] = config

    def _read_weights(self, kind: ComponentKind) -> None:
        folder = self.folder(kind.name)
        weights: Weights = {}
        for shard in self._shards(folder, str(kind.weights)):
            try:
                weights |= read_header(shard)
            except FileNotFoundError:
                self._report(shard, "is missing")
            except (UnreadableWeightsError, OSError) as error:
                self._report(shard, str(error))
        self.weights[kind.name] = weights
        if not any(Path(finding.path).parent == folder for finding in self.findings):
            self._check_weights(kind, folder, weights)

    def _shards(self, folder: Path, stem: str) -> list[Path]:
        index_path = folder / f"{stem}{INDEX_SUFFIX}"
        if not index_path.exists():
            return [folder / f"{stem}.safetensors"]
        index = self._read_json(index_path) or {}
        names = sorted({str(name) for name in index.get("weight_map", {}).values()})
        return [folder / name for name in names]

    def _check_weights(self, kind: ComponentKind, folder: Path, weights: Weights) -> None:
        shapes = {name: entry.shape for name, entry in weights.items()}
        config = self.configs[kind.name]
        try:
            expected = _expected_shapes(kind, config)
        except (KeyError, TypeError, ValueError) as error:
            self._report(folder / "config.json", f"lacks a usable value for {error}")
            return
        missing = sorted(expected.keys() - shapes.keys())
        if missing:
            self._report(folder, f"lacks {len(missing)} tensors: {_some(missing)}")
        wrong = sorted(n for n in expected.keys() & shapes.keys() if expected[n] != shapes[n])
        if wrong:
            name = wrong[0]
            self._report(
                folder,
                f"{name} has shape {list(shapes[name])}, its config says {list(expected[name])}",
            )

    def _check_tokenizer(self, name: str, alternatives: tuple[tuple[str, ...], ...]) -> None:
        folder = self.folder(name)
        if any(all((folder / file).is_file() for file in files) for files in alternatives):
            return
        wanted = " or ".join(" and ".join(files) for files in alternatives)
        self._report(folder, f"has no tokenizer: {wanted} is missing")

    def _check_dimensions(self) -> None:
        """Compare what the transformer's config expects with what the other configs offer."""
        configs = self.configs
        if any(kind.name not in configs for kind in WEIGHTED):
            return
        transformer = configs[TRANSFORMER.name]
        path = self.folder(TRANSFORMER.name) / "config.json"
        try:
            wanted = {
                f"{T5.name} d_model": (
                    transformer["caption_channels"][0],
                    configs[T5.name]["d_model"],
                ),
                f"{LLAMA.name} hidden_size": (
                    transformer["caption_channels"][1],
                    configs[LLAMA.name]["hidden_size"],
                ),
                "the CLIP projections together": (
                    transformer["text_emb_dim"],
                    configs[CLIP_L.name]["projection_dim"] + configs[CLIP_G.name]["projection_dim"],
                ),
                f"{VAE.name} latent_channels": (
                    transformer["in_channels"],
                    configs[VAE.name]["latent_channels"],
                ),
            }
            depth = configs[LLAMA.name]["num_hidden_layers"]
            deepest = max(transformer["llama_layers"])
        except (KeyError, TypeError, IndexError, ValueError) as error:
            self._report(path, f"or a config it depends on lacks {error}")
            return
        for what, (expected, offered) in wanted.items():
            if expected != offered:
                self._report(path, f"expects {what} of {expected}, found {offered}")
        if deepest >= depth:
            self._report(
                self.folder(LLAMA.name) / "config.json",
                f"has {depth} layers, too shallow for llama_layers up to {deepest}",
            )


def _expected_shapes(kind: ComponentKind, config: Config) -> dict[str, tuple[int, ...]]:
    if kind is TRANSFORMER:
        return expected_weights(config)
    if kind.landmark is None:
        return {}
    name, keys = kind.landmark
    return {name: tuple(int(config[key]) for key in keys)}


def _some(names: list[str]) -> str:
    more = ", …" if len(names) > _MAX_NAMES_SHOWN else ""
    return ", ".join(names[:_MAX_NAMES_SHOWN]) + more
