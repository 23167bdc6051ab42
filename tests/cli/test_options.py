"""The command line has every option, from their one declaration."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from hidream_server.cli.options import with_settings
from hidream_server.errors import ConfigurationError, PathMissingError
from hidream_server.settings import Settings, options


@pytest.fixture(autouse=True)
def no_exported_options(monkeypatch):
    """Take away what whoever runs the tests has exported."""
    for option in options():
        for name in option.env:
            monkeypatch.delenv(name, raising=False)


@pytest.fixture
def command():
    """Return a function that runs a small command and gives the settings it was called with."""
    called = []
    app = typer.Typer()

    @app.command()
    @with_settings
    def show(settings: Settings, loud: bool = False) -> None:
        """Show the settings."""
        called.append((settings, loud))

    def run(*arguments: str) -> tuple[Settings, bool]:
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return called.pop()

    run.app = app
    return run


def test_without_arguments_the_settings_are_the_defaults(command):
    assert command() == (Settings(), False)


def test_every_option_is_accepted_by_each_of_its_flags(command):
    values = {"port": "9000", "host": "::1", "model_path": "/m", "devices": "1,0", "data_dir": "/d"}
    for option in options():
        if option.name in values:
            for flag in option.flags:
                settings, _ = command(flag, values[option.name])
                assert settings == Settings.model_validate({option.name: values[option.name]})


def test_the_help_names_every_flag(command):
    result = CliRunner().invoke(command.app, ["--help"], terminal_width=200)
    assert result.exit_code == 0
    for option in options():
        for flag in option.flags:
            assert flag in result.output
    assert "Show the settings." in result.output


def test_the_commands_own_options_are_kept(command):
    assert command("--loud", "--port", "9000") == (Settings(port=9000), True)


def test_options_may_come_from_a_config_file_and_a_flag_wins(command, tmp_path: Path):
    path = tmp_path / "hidream.toml"
    path.write_text("port = 9001\nhost = '::1'\n")
    settings, _ = command("--config", str(path), "--port", "9002")
    assert (settings.port, settings.host) == (9002, "::1")


def test_options_may_come_from_the_environment_and_a_flag_wins(command, monkeypatch):
    monkeypatch.setenv("HIDREAM_PORT", "9001")
    monkeypatch.setenv("DEVICE_TYPE", "cpu")
    assert command()[0] == Settings(port=9001, device_type="cpu")
    assert command("--port", "9002")[0].port == 9002


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--port", "eighty"], ConfigurationError),
        (["--config", "/nowhere/hidream.toml"], PathMissingError),
    ],
)
def test_a_value_that_cannot_be_is_an_error_of_the_tree(command, arguments, error):
    with pytest.raises(error):
        command(*arguments)
