"""``python -m jsrl``."""

from jsrl.commands.cli import main

main()
