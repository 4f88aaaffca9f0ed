"""The commands and their options, as users and their scripts know them: a change here is a change for them."""

import typer.main
from typer.testing import CliRunner

from raysweep.cli import app

FILE, DIR = ["FILE", "--set"], ["DIR"]
SURFACE = {
    "check": FILE,
    "run": [*FILE, "--dir", "--inline"],
    "resume": [*DIR, "--inline"],
    "status": DIR,
    "why": [*DIR, "TRIAL"],
    "report": DIR,
    "sync": DIR,
    "recipes": [],
    "schema": [],
}


def test_commands_with_their_arguments_and_options_in_order() -> None:
    group = typer.main.get_command(app)
    found = {
        name: [word for option in command.params for word in words(option)]
        for name, command in group.commands.items()  # type: ignore[attr-defined]
    }
    assert found == SURFACE
    assert group.params == []


def words(parameter: typer.core.TyperArgument | typer.core.TyperOption) -> list[str]:
    """How a parameter is written: an argument by its name in the help, an option by every spelling."""
    if isinstance(parameter, typer.core.TyperArgument):
        return [str(parameter.metavar)]
    return [*parameter.opts, *parameter.secondary_opts]


def test_arguments_are_required_and_options_are_not() -> None:
    for command in typer.main.get_command(app).commands.values():  # type: ignore[attr-defined]
        for parameter in command.params:
            assert parameter.required == isinstance(parameter, typer.core.TyperArgument), (command.name, parameter.name)


def test_every_command_and_option_says_what_it_does() -> None:
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        assert command.help, name
        assert [option.name for option in command.params if not getattr(option, "help", None)] == [], name


def test_without_a_command_the_help_is_shown() -> None:
    answer = CliRunner().invoke(app, [])
    assert all(name in answer.output for name in SURFACE)
