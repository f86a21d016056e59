"""The table of commands, and that the command line is there at once."""

import subprocess
import sys

from jsrl.commands.table import COMMANDS

SLOW = ("torch", "hydra", "omegaconf", "matplotlib")


def test_help_imports_nothing_that_is_slow():
    program = (
        "import sys; from jsrl.commands.cli import main; sys.argv = ['jsrl', '--help']; main();"
        f"print([name for name in {SLOW!r} if name in sys.modules])"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *usage, imported = done.stdout.splitlines()
    assert imported == "[]"
    for command in COMMANDS.values():
        assert f"  {command.name:<18} {command.example}" in usage


def test_no_two_commands_share_a_configuration():
    assert len({command.config for command in COMMANDS.values()}) == len(COMMANDS)
