import pytest

from lottery.commands.registry import COMMANDS
from preprocessing.common.errors import InputError
from tests.lottery.command import call


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_without_empty_defaults(monkeypatch, capsys, command):
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, command, "--help")
    printed = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"python -m lottery {command}" in printed
    assert COMMANDS[command].help in " ".join(printed.split())
    assert "default: None" not in printed


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_run_directory_is_one_line(monkeypatch, tmp_path, command):
    with pytest.raises(InputError, match=f"{tmp_path}/digits is not a run directory") as raised:
        call(monkeypatch, command, tmp_path / "digits")
    assert type(raised.value) is InputError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "COMMAND; --help lists the options"),
        (("publish", "runs/x"), "'publish'"),
        (("status",), "RUN; --help lists the options"),
        (("status", "runs/x", "--sta"), "unrecognized arguments: --sta; --help lists the options"),
    ],
)
def test_a_command_line_that_is_not_understood_is_one_line(monkeypatch, arguments, message):
    with pytest.raises(InputError) as raised:
        call(monkeypatch, *arguments)
    assert type(raised.value) is InputError
    assert message in str(raised.value)
