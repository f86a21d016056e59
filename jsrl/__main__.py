"""``python -m jsrl``."""

from jsrl.cli import main

main()
