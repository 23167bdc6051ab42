"""Reading a model directory: what is in the demo model, and every way to break a copy of it."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from hidream_server.demo import DEMO_EXTRA_MODEL_PATH, DEMO_MODEL_PATH
from hidream_server.errors import Finding, ModelDirectoryError
from hidream_server.model_directory.description import (
    DOCUMENTED_SIZES,
    ModelDescription,
    Variant,
)
from hidream_server.model_directory.reading import describe
from tests.support import edit_json, linked_demo, rewrite


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a copy of the demo model that may be broken; its Llama lies beside it."""
    return linked_demo(tmp_path)


def llama_of(model: Path) -> Path:
    return model.parent / DEMO_EXTRA_MODEL_PATH.name


def described(model: Path) -> ModelDescription:
    return describe(model, llama_of(model))


def findings(model: Path) -> list[Finding]:
    """Return what is wrong with a model; something must be."""
    with pytest.raises(ModelDirectoryError) as caught:
        described(model)
    return caught.value.findings


def finding(model: Path) -> Finding:
    """Return the one thing that is wrong with a model."""
    [only] = findings(model)
    return only


def split_into_shards(folder: Path, stem: str) -> list[Path]:
    """Turn the one weight file of a folder into two with an index beside them."""
    whole = folder / f"{stem}.safetensors"
    tensors = load_file(whole)
    names = sorted(tensors)
    halves = (names[: len(names) // 2], names[len(names) // 2 :])
    shards, places = [], {}
    for number, half in enumerate(halves, 1):
        shards.append(folder / f"{stem}-0000{number}-of-00002.safetensors")
        save_file({name: tensors[name] for name in half}, shards[-1])
        places |= dict.fromkeys(half, shards[-1].name)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    whole.unlink()
    return shards


# What the demo model is


def test_the_demo_model_is_described():
    demo = describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH)
    assert (demo.path, demo.extra_path) == (DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH)
    assert demo.name == "HiDream-I1-Demo"
    assert demo.is_demo
    assert (demo.variant, demo.sampler) == (Variant.FULL, "UniPCMultistepScheduler")
    assert (demo.variant.default_steps, demo.variant.default_guidance) == (50, 5.0)
    assert (demo.size_multiple, demo.max_image_tokens) == (64, 256)


def test_components_are_named_with_class_place_and_number_of_parameters():
    demo = describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH)
    assert [(part.name, part.class_name) for part in demo.components] == [
        ("transformer", "HiDreamImageTransformer2DModel"),
        ("vae", "AutoencoderKL"),
        ("text_encoder", "CLIPTextModelWithProjection"),
        ("text_encoder_2", "CLIPTextModelWithProjection"),
        ("text_encoder_3", "T5EncoderModel"),
        ("text_encoder_4", "LlamaForCausalLM"),
    ]
    for part in demo.components:
        [file] = part.path.glob("*.safetensors")
        assert part.parameters == sum(tensor.size for tensor in load_file(file).values())
    assert demo.components[0].path == DEMO_MODEL_PATH / "transformer"
    assert demo.components[-1].path == DEMO_EXTRA_MODEL_PATH


def test_a_copy_of_the_demo_model_is_as_good_but_not_the_demo(model):
    copied = described(model)
    assert not copied.is_demo
    assert copied.extra_path == llama_of(model)
    assert [part.parameters for part in copied.components] == [
        part.parameters for part in describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH).components
    ]


def test_the_demo_model_is_known_by_any_way_to_its_folder(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(DEMO_MODEL_PATH)
    assert describe(link, DEMO_EXTRA_MODEL_PATH).is_demo


def test_reading_takes_less_than_a_second(model):
    start = time.process_time()
    described(model)
    assert time.process_time() - start < 1.0


# Variants


@pytest.mark.parametrize(
    ("changes", "variant", "steps", "guidance"),
    [
        ({}, Variant.FAST, 16, 0.0),
        ({"shift": 6.0}, Variant.DEV, 28, 0.0),
        ({"shift": ...}, Variant.FAST, 16, 0.0),
    ],
)
def test_a_consistency_sampler_makes_it_fast_or_by_its_shift_dev(
    model, changes, variant, steps, guidance
):
    shutil.rmtree(model / "scheduler")
    (model / "scheduler_fast").rename(model / "scheduler")
    edit_json(model / "scheduler" / "scheduler_config.json", **changes)
    found = described(model)
    assert (found.variant, found.sampler) == (variant, "FlowMatchLCMScheduler")
    assert (found.variant.default_steps, found.variant.default_guidance) == (steps, guidance)


def test_the_defaults_belong_to_the_variant():
    assert {v: (v.default_steps, v.default_guidance) for v in Variant} == {
        Variant.FULL: (50, 5.0),
        Variant.DEV: (28, 0.0),
        Variant.FAST: (16, 0.0),
    }


# Forms that are as good


def test_weights_in_several_shards_with_an_index_are_the_same(model):
    before = described(model)
    split_into_shards(model / "transformer", "diffusion_pytorch_model")
    split_into_shards(model / "text_encoder_3", "model")
    split_into_shards(llama_of(model), "model")
    after = described(model)
    assert [len(part.files) for part in after.components] != [1] * len(after.components)
    assert without_files(after) == without_files(before)


def without_files(description: ModelDescription) -> ModelDescription:
    parts = tuple(replace(part, files=()) for part in description.components)
    return replace(description, components=parts)


def test_a_llama_inside_the_directory_needs_no_directory_of_its_own(model):
    llama = llama_of(model)
    (model / "tokenizer_4").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (llama / name).rename(model / "tokenizer_4" / name)
    llama.rename(model / "text_encoder_4")
    found = describe(model, None)
    assert found.extra_path is None
    assert found.components[-1].path == model / "text_encoder_4"


def test_a_llama_inside_the_directory_is_taken_before_the_one_given(model, tmp_path):
    shutil.copytree(llama_of(model), model / "text_encoder_4")
    shutil.copytree(llama_of(model), model / "tokenizer_4")
    found = describe(model, llama_of(model))
    assert found.extra_path is None
    assert found.components[-1].path == model / "text_encoder_4"


@pytest.mark.parametrize("folder", ["tokenizer", "tokenizer_2"])
def test_a_clip_tokenizer_may_be_a_vocabulary_and_merges(model, folder):
    (model / folder / "tokenizer.json").unlink()
    (model / folder / "vocab.json").touch()
    (model / folder / "merges.txt").touch()
    described(model)


def test_the_t5_tokenizer_may_be_a_sentencepiece_model(model):
    (model / "tokenizer_3" / "tokenizer.json").rename(model / "tokenizer_3" / "spiece.model")
    described(model)


def test_a_model_index_of_the_first_week_without_a_transformer_is_accepted(model):
    edit_json(model / "model_index.json", transformer=...)
    described(model)


# One thing wrong


def test_no_model_index(model):
    (model / "model_index.json").unlink()
    assert finding(model) == Finding(str(model / "model_index.json"), "is missing")


def test_a_model_index_of_another_pipeline(model):
    edit_json(model / "model_index.json", _class_name="FluxPipeline")
    found = finding(model)
    assert found.path == str(model / "model_index.json")
    assert "FluxPipeline" in found.problem
    assert "HiDreamImagePipeline" in found.problem


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000],
    ids=["empty", "half", "no UTF-8", "deep"],
)
def test_a_config_that_is_not_json(model, content):
    path = model / "vae" / "config.json"
    rewrite(path, content)
    found = finding(model)
    assert found.path == str(path)
    assert "cannot be read" in found.problem


def test_a_config_that_is_no_object(model):
    rewrite(model / "vae" / "config.json", b"[]")
    assert finding(model) == Finding(str(model / "vae/config.json"), "is not a JSON object")


@pytest.mark.parametrize(
    "name", ["transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3", "scheduler"]
)
def test_a_missing_folder(model, name):
    shutil.rmtree(model / name)
    assert finding(model) == Finding(str(model / name), "is missing")


def test_no_llama_anywhere_says_how_to_give_one(model):
    with pytest.raises(ModelDirectoryError) as caught:
        describe(model, None)
    first, *_ = caught.value.findings
    assert first.path == str(model / "text_encoder_4")
    assert "-e" in first.problem


@pytest.mark.parametrize(
    ("file", "key", "is_now", "should_be"),
    [
        ("transformer/config.json", "_class_name", "FluxTransformer2DModel", "HiDreamImage"),
        ("vae/config.json", "_class_name", "AutoencoderTiny", "AutoencoderKL"),
        ("scheduler/scheduler_config.json", "_class_name", "DDIMScheduler", "UniPC"),
    ],
)
def test_a_wrong_class_of_diffusers(model, file, key, is_now, should_be):
    edit_json(model / file, **{key: is_now})
    found = finding(model)
    assert found.path == str(model / file)
    assert is_now in found.problem
    assert should_be in found.problem


@pytest.mark.parametrize("name", ["text_encoder", "text_encoder_2", "text_encoder_3", "llama"])
def test_a_wrong_class_of_transformers(model, name):
    path = (llama_of(model) if name == "llama" else model / name) / "config.json"
    edit_json(path, architectures=["BertModel"])
    found = finding(model)
    assert found.path == str(path)
    assert "BertModel" in found.problem


def test_a_scheduler_that_does_not_say_its_class(model):
    path = model / "scheduler" / "scheduler_config.json"
    edit_json(path, _class_name=...)
    assert finding(model).path == str(path)


def test_a_missing_weight_file(model):
    path = model / "vae" / "diffusion_pytorch_model.safetensors"
    path.unlink()
    assert finding(model) == Finding(str(path), "is missing")


def test_a_missing_shard(model):
    [first, _] = split_into_shards(model / "transformer", "diffusion_pytorch_model")
    first.unlink()
    assert finding(model) == Finding(str(first), "is missing")


def test_a_truncated_shard(model):
    [_, second] = split_into_shards(model / "transformer", "diffusion_pytorch_model")
    size = second.stat().st_size
    with second.open("r+b") as file:
        file.truncate(size - 1)
    found = finding(model)
    assert found.path == str(second)
    assert f"truncated: {size - 1} bytes of {size}" in found.problem


def test_an_lfs_pointer_in_place_of_a_weight_file(model):
    path = model / "text_encoder_2" / "model.safetensors"
    rewrite(path, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    found = finding(model)
    assert found.path == str(path)
    assert "git lfs pull" in found.problem


def test_a_weight_file_that_leads_nowhere(model):
    path = model / "vae" / "diffusion_pytorch_model.safetensors"
    path.unlink()
    path.symlink_to(model / "nowhere")
    assert finding(model) == Finding(str(path), "is missing")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"weight_map": {}}', b'{"weight_map": []}']
)
def test_an_index_that_names_no_shards(model, content):
    path = model / "vae" / "diffusion_pytorch_model.safetensors.index.json"
    rewrite(path, content)
    assert finding(model).path == str(path)


def test_a_tensor_that_is_missing(model):
    path = model / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    del tensors["single_stream_blocks.3.block.ff_i.gate.weight"]
    path.unlink()
    save_file(tensors, path)
    assert finding(model) == Finding(
        str(model / "transformer"),
        "lacks 1 tensors: single_stream_blocks.3.block.ff_i.gate.weight",
    )


@pytest.mark.parametrize(
    ("file", "key", "value", "folder", "names"),
    [
        ("transformer", "num_routed_experts", 5, "transformer", "experts.4"),
        ("transformer", "attention_head_dim", 32, "transformer", "96"),
        ("transformer", "num_single_layers", 5, "transformer", "single_stream_blocks.4"),
        ("transformer", "num_single_layers", 3, "transformer", "single_stream_blocks.3"),
        ("transformer", "out_channels", 8, "transformer", "final_layer.linear"),
        ("text_encoder", "vocab_size", 49408, "text_encoder", "49408"),
        ("text_encoder_2", "hidden_size", 1280, "text_encoder_2", "1280"),
        ("llama", "vocab_size", 128256, "llama", "128256"),
    ],
)
def test_a_config_that_is_not_of_these_weights(model, file, key, value, folder, names):
    places = {"llama": llama_of(model)}
    edit_json(places.get(file, model / file) / "config.json", **{key: value})
    found = [f for f in findings(model) if f.path == str(places.get(folder, model / folder))]
    assert any(names in f.problem for f in found)


@pytest.mark.parametrize(
    ("file", "key", "value", "names"),
    [
        ("text_encoder_3", "d_model", 128, "d_model of 64, found 128"),
        ("llama", "hidden_size", 128, "hidden_size of 64, found 128"),
        ("text_encoder", "projection_dim", 32, "CLIP projections together of 128, found 96"),
        ("vae", "latent_channels", 4, "latent_channels of 16, found 4"),
    ],
)
def test_configs_that_do_not_fit_each_other(model, file, key, value, names):
    folder = llama_of(model) if file == "llama" else model / file
    edit_json(folder / "config.json", **{key: value})
    found = [f for f in findings(model) if f.path == str(model / "transformer" / "config.json")]
    assert [names in f.problem for f in found] == [True]


def test_a_llama_that_is_too_shallow(model):
    edit_json(llama_of(model) / "config.json", num_hidden_layers=1)
    found = finding(model)
    assert found.path == str(llama_of(model) / "config.json")
    assert "1 layers" in found.problem
    assert "too shallow" in found.problem


@pytest.mark.parametrize("layers", [[0, 1], [0] * 7])
def test_llama_layers_that_are_not_one_for_each_block(model, layers):
    edit_json(model / "transformer" / "config.json", llama_layers=layers)
    found = finding(model)
    assert found.path == str(model / "transformer" / "config.json")
    assert "llama_layers" in found.problem


@pytest.mark.parametrize("name", ["tokenizer", "tokenizer_2", "tokenizer_3", "llama"])
def test_a_missing_tokenizer_file(model, name):
    folder = llama_of(model) if name == "llama" else model / name
    (folder / "tokenizer.json").unlink()
    found = finding(model)
    assert found.path == str(folder)
    assert "tokenizer.json" in found.problem


def test_half_a_clip_tokenizer_is_none(model):
    (model / "tokenizer" / "tokenizer.json").rename(model / "tokenizer" / "vocab.json")
    found = finding(model)
    assert found.path == str(model / "tokenizer")
    assert "merges.txt" in found.problem


#: Every value of a config that is read.
READ = [
    ("transformer/config.json", "patch_size"),
    ("transformer/config.json", "max_resolution"),
    ("transformer/config.json", "num_layers"),
    ("transformer/config.json", "in_channels"),
    ("transformer/config.json", "caption_channels"),
    ("transformer/config.json", "text_emb_dim"),
    ("transformer/config.json", "llama_layers"),
    ("vae/config.json", "block_out_channels"),
    ("vae/config.json", "latent_channels"),
    ("text_encoder/config.json", "projection_dim"),
    ("text_encoder/config.json", "hidden_size"),
    ("text_encoder_3/config.json", "d_model"),
    ("../Llama-Demo/config.json", "num_hidden_layers"),
    ("../Llama-Demo/config.json", "vocab_size"),
]


@pytest.mark.parametrize("value", [..., None, "many", []], ids=["absent", "null", "text", "list"])
@pytest.mark.parametrize(("file", "key"), READ, ids=[f"{file}:{key}" for file, key in READ])
def test_a_value_that_is_read_but_is_absent_or_no_number_is_a_finding(model, file, key, value):
    edit_json(model / file, **{key: value})
    assert findings(model)


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("scheduler/scheduler_config.json", {"_class_name": None}),
        ("scheduler/scheduler_config.json", {"_class_name": "FlowMatchLCMScheduler", "shift": "x"}),
        ("scheduler/scheduler_config.json", {"_class_name": "FlowMatchLCMScheduler", "shift": []}),
        ("text_encoder/config.json", {"architectures": 5}),
        ("vae/diffusion_pytorch_model.safetensors.index.json", {"weight_map": None}),
    ],
)
def test_other_values_of_the_wrong_kind_are_findings_too(model, file, changes):
    path = model / file
    if not path.exists():
        path.write_text("{}")
    edit_json(path, **changes)
    assert finding(model).path == str(path)


# Several things wrong


def test_all_problems_are_reported_at_once_each_with_its_path(model):
    (model / "model_index.json").unlink()
    (model / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    rewrite(model / "text_encoder" / "model.safetensors", b"version https://git-lfs.github.com")
    edit_json(model / "text_encoder_3" / "config.json", architectures=["BertModel"])
    (model / "tokenizer_2" / "tokenizer.json").unlink()
    shutil.rmtree(llama_of(model))
    assert [f.path for f in findings(model)] == [
        str(model / "model_index.json"),
        str(model / "text_encoder_3" / "config.json"),
        str(llama_of(model)),
        str(model / "vae" / "diffusion_pytorch_model.safetensors"),
        str(model / "text_encoder" / "model.safetensors"),
        str(model / "tokenizer_2"),
        str(llama_of(model)),
    ]


def test_an_empty_folder_is_called_so(tmp_path):
    assert str(finding(tmp_path)) == f"{tmp_path}: is an empty folder: no model is in it"


def test_a_folder_of_something_else_lacks_everything(tmp_path):
    (tmp_path / "README.md").touch()
    with pytest.raises(ModelDirectoryError) as caught:
        describe(tmp_path, None)
    paths = {Path(f.path).name for f in caught.value.findings}
    assert paths == {
        "model_index.json",
        *("transformer", "vae", "scheduler"),
        *("text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4"),
        *("tokenizer", "tokenizer_2", "tokenizer_3", "tokenizer_4"),
    }


# Sizes


def real_model() -> ModelDescription:
    """Return the demo's description with the published model's sizes."""
    demo = describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH)
    return replace(demo, size_multiple=16, max_image_tokens=4096)


@pytest.mark.parametrize(
    "size",
    [
        *DOCUMENTED_SIZES,
        *((768, 1360), (1360, 768), (880, 1168), (1168, 880), (1248, 832), (832, 1248)),
        *((16, 16), (2048, 512), (1040, 1008)),
    ],
)
def test_the_published_model_paints_these_sizes(size):
    assert real_model().paints(*size)


@pytest.mark.parametrize(
    "size",
    [(0, 0), (0, 16), (16, 0), (-16, -16), (1024, 1025), (1000, 1000), (1040, 1024), (2048, 2048)],
)
def test_the_published_model_does_not_paint_these_and_says_what_it_does(size):
    assert not real_model().paints(*size)
    problem = real_model().allowed_sizes
    assert "1024x1024, 1024x768, 768x1024, 512x512" in problem
    assert "multiples of 16" in problem
    assert "at most 1048576 pixels" in problem


@pytest.mark.parametrize("size", [*DOCUMENTED_SIZES, (64, 64), (2048, 512), (640, 1024)])
def test_the_demo_model_paints_these_sizes(size):
    assert describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH).paints(*size)


@pytest.mark.parametrize("size", [(768, 1360), (32, 32), (1088, 1024), (1024, 1056)])
def test_the_demo_model_does_not_paint_these(size):
    demo = describe(DEMO_MODEL_PATH, DEMO_EXTRA_MODEL_PATH)
    assert not demo.paints(*size)
    assert "multiples of 64" in demo.allowed_sizes


def test_image_tokens_are_counted_in_squares_of_the_size_multiple():
    assert real_model().image_tokens(1024, 768) == 64 * 48
