"""Options: where they come from, which one wins, and how a wrong one is refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from hidream_server.errors import ConfigurationError, DeviceListError, PathMissingError
from hidream_server.settings import Settings, load_settings, options

OPTIONS = list(options())
#: A value other than the default for every option, as text.
TEXTS = {
    "max_rows": "4",
    "compile": "true",
    "max_previews": "5",
    "model_path": "/m",
    "extra_model_path": "/e",
    "project_path": "/p",
    "executor": "project",
    "devices": "2,3",
    "device_count": "2",
    "device_type": "cuda",
    "layout": "cfg2-sp4",
    "tp_size": "2",
    "ep_size": "2",
    "replicas": "2",
    "nnodes": "2",
    "node_rank": "1",
    "rdzv_endpoint": "10.0.0.1:29400",
    "offload_encoders": "always",
    "port": "9000",
    "host": "127.0.0.1",
    "api_base_url": "https://pictures.example",
    "root_path": "/hidream",
    "trusted_proxies": "10.0.0.1,172.16.0.0/12",
    "cors_origins": "https://app.example,http://localhost:3000",
    "ssl_certfile": "/c.pem",
    "ssl_keyfile": "/k.pem",
    "max_connections": "7",
    "max_body_mb": "7",
    "data_dir": "/d",
    "log_dir": "/l",
    "log_level": "DEBUG",
    "log_format": "json",
    "log_file_mb": "3",
    "otlp_endpoint": "http://collector:4318",
    "max_prompt_chars": "10",
    "max_inference_steps": "10",
    "max_guidance_scale": "9.5",
    "max_images_per_prompt": "2",
    "max_batch_requests": "3",
    "max_running": "3",
    "max_crashes": "5",
    "results": "s3://bucket/prefix",
    "database_url": "postgresql://u@h/d",
    "max_queue_length": "7",
    "max_queued_per_client": "7",
    "max_running_per_client": "7",
    "max_images_per_minute": "7",
    "queue_timeout_s": "1.5",
    "run_timeout_s": "1.5",
    "keep_pictures_days": "1.5",
    "keep_pictures_gb": "1.5",
    "keep_tasks_days": "1.5",
    "link_lifetime_s": "60",
    "max_files_mb": "16",
    "model_aliases": "gpt-image-1,dall-e-3",
    "webhook_allow_private": "true",
    "drain_timeout_s": "0",
    "layout_tries": "3",
    "layout_cool_down_s": "10",
    "checkpoint_s": "2.5",
    "step_cache": "0.05",
    "fp8": "true",
    "step_timeout_s": "1.5",
    "load_timeout_s": "2.5",
    "prompt_cache_mb": "0",
}


def config(folder: Path, text: str) -> Path:
    """Write a config file."""
    path = folder / "hidream.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(flags=(), config_file=None, environ=()) -> ConfigurationError:
    """Return the error with which these options are refused; it is one line."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(dict(flags), config_file, dict(environ))
    assert "\n" not in str(caught.value)
    return caught.value


def test_without_any_option_the_defaults_hold():
    assert load_settings({}, environ={}) == Settings()


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(tmp_path):
    file = config(tmp_path, "port = 1\nmax_crashes = 1\nlog_file_mb = 1\n")
    environ = {"HIDREAM_PORT": "2", "HIDREAM_MAX_CRASHES": "2"}
    settings = load_settings({"port": "3", "host": None}, file, environ)
    assert (settings.port, settings.max_crashes, settings.log_file_mb) == (3, 2, 1)
    assert settings.host == "0.0.0.0"


def test_every_option_has_a_text_here():
    assert set(TEXTS) == {option.name for option in OPTIONS} == set(Settings.model_fields)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_an_option_means_the_same_as_a_flag_and_under_each_of_its_environment_names(option):
    text = TEXTS[option.name]
    by_flag = load_settings({option.name: text}, environ={})
    assert by_flag != Settings()
    for name in option.env:
        assert load_settings({}, environ={name: text}) == by_flag


def test_the_environment_names_of_the_first_version_still_work():
    old = {"ASCEND_RT_VISIBLE_DEVICES": "2,3", "DEVICE_COUNT": "2", "DEVICE_TYPE": "npu"}
    settings = load_settings({}, environ=old | {"API_BASE_URL": "http://10.0.0.1:8088"})
    assert settings.devices == (2, 3)
    assert settings.device_count == 2
    assert settings.device_type == "npu"
    assert settings.api_base_url == "http://10.0.0.1:8088"


def test_the_projects_own_environment_name_comes_first():
    environ = {"HIDREAM_DEVICE_TYPE": "cpu", "DEVICE_TYPE": "npu"}
    assert load_settings({}, environ=environ).device_type == "cpu"


def test_an_empty_environment_variable_is_no_value():
    assert load_settings({}, environ={"HIDREAM_PORT": "", "DEVICE_COUNT": ""}) == Settings()


def test_no_two_options_share_a_flag_or_an_environment_name():
    flags = [flag for option in OPTIONS for flag in option.flags]
    names = [name for option in OPTIONS for name in option.env]
    assert len(set(flags)) == len(flags)
    assert len(set(names)) == len(names)
    assert all(option.help for option in OPTIONS)


def test_flags_are_the_names_with_dashes():
    by_name = {option.name: option for option in OPTIONS}
    assert by_name["model_path"].flags == ("-m", "--model-path")
    assert by_name["max_crashes"].flags == ("--max-crashes",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "0"),
        ("port", "65536"),
        ("port", "eighty"),
        ("device_type", "tpu"),
        ("device_count", "0"),
        ("api_base_url", "pictures.example"),
        ("root_path", "hidream"),
        ("root_path", "/"),
        ("root_path", "/hidream/"),
        ("cors_origins", "app.example"),
        ("cors_origins", "https://app.example/"),
        ("cors_origins", "https://App.example"),
        ("cors_origins", "https://app.example,*"),
        ("max_connections", "-1"),
        ("max_body_mb", "0"),
        ("log_level", "LOUD"),
        ("log_format", "xml"),
        ("log_file_mb", "0"),
        ("max_prompt_chars", "0"),
        ("max_inference_steps", "0"),
        ("max_guidance_scale", "0.5"),
        ("max_guidance_scale", "nan"),
        ("max_images_per_prompt", "0"),
        ("max_batch_requests", "0"),
        ("max_crashes", "0"),
        ("drain_timeout_s", "-1"),
        ("drain_timeout_s", "nan"),
        ("executor", "ray"),
        ("layout", "tp"),
        ("layout", "fastest"),
        ("tp_size", "0"),
        ("ep_size", "0"),
        ("layout_tries", "0"),
        ("layout_cool_down_s", "-1"),
        ("step_timeout_s", "0"),
        ("step_timeout_s", "nan"),
        ("load_timeout_s", "0"),
        ("prompt_cache_mb", "-1"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_flag_and_the_value(name, value):
    message = str(refusal({name: value}))
    assert "--" + name.replace("_", "-") in message
    assert repr(value) in message


@pytest.mark.parametrize("text", ["", "a", "0,", ",0", "0,,1", "0 1", "-1", "0;1", "1.0"])
def test_a_device_list_that_cannot_be_read_is_refused(text):
    error = refusal({"devices": text})
    assert isinstance(error, DeviceListError)
    assert repr(text) in str(error)
    assert "0,1,2,3" in str(error)


def test_a_device_named_twice_is_refused():
    error = refusal({"devices": "0,1,3,1"})
    assert isinstance(error, DeviceListError)
    assert "device 1 twice" in str(error)


@pytest.mark.parametrize(
    "text", ["nginx", "10.0.0.1/8", "10.0.0.1,", "10.0.0.256", "*,10.0.0.1", "10.0.0.1;10.0.0.2"]
)
def test_proxies_that_are_no_addresses_are_refused(text):
    message = str(refusal({"trusted_proxies": text}))
    assert repr(text) in message
    assert "10.0.0.1,172.16.0.0/12" in message


@pytest.mark.parametrize("text", ["*", "10.0.0.1", "::1, fd00::/8", "10.0.0.0/8"])
def test_proxies_are_addresses_or_networks_or_all(text):
    assert load_settings({"trusted_proxies": text}, environ={}).trusted_proxies == text


def test_a_device_list_keeps_its_order():
    assert load_settings({"devices": " 3,1,2 "}, environ={}).devices == (3, 1, 2)


def test_the_config_file_may_list_devices_as_numbers_or_as_text(tmp_path):
    assert load_settings({}, config(tmp_path, "devices = [2, 0]"), {}).devices == (2, 0)
    assert load_settings({}, config(tmp_path, 'devices = "2,0"'), {}).devices == (2, 0)


@pytest.mark.parametrize("listed", ["[]", "[1, 1]", "[-1]"])
def test_a_device_list_in_the_config_file_obeys_the_same_rules_as_a_flag(tmp_path, listed):
    assert "device" in str(refusal(config_file=config(tmp_path, f"devices = {listed}")))


def test_a_name_that_is_no_option_is_refused(tmp_path):
    assert "'prot'" in str(refusal(config_file=config(tmp_path, "prot = 1")))


def test_a_config_file_that_is_not_there_is_refused(tmp_path):
    error = refusal(config_file=tmp_path / "none.toml")
    assert isinstance(error, PathMissingError)
    assert str(tmp_path / "none.toml") in str(error)


@pytest.mark.parametrize("content", [b"port = ", b"\xff\xfe"])
def test_a_config_file_that_is_not_toml_is_refused(tmp_path, content):
    path = tmp_path / "hidream.toml"
    path.write_bytes(content)
    message = str(refusal(config_file=path))
    assert str(path) in message
    assert "TOML" in message


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1
