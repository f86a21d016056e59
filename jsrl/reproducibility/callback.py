"""Draws the report when all cells of a sweep are done, in whichever processes they were."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from jsrl.core.errors import UserError

ONLY_THIS_TIME = ("run_dir", "output", "logger.progress", "hydra/launcher")
"""Keys that do not change what is measured."""


def command_of(overrides: Sequence[str]) -> str:
    """What to type to repeat a sweep anywhere."""
    kept = [o for o in overrides if not o.startswith((*ONLY_THIS_TIME, "hydra.launcher"))]
    return shlex.join(["jsrl", "reproducibility", *kept])


class ReportCallback(Callback):
    """Hydra calls it in the process that launched the sweep."""

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        from jsrl.reproducibility.report import write_reports

        output = None if config.output is None else Path(config.output)
        # None where the task is itself what was swept: then all that are there.
        task = config.supervised.task or config.experiment
        command = command_of(sys.argv[1:])
        try:
            for line in write_reports(Path(config.run_dir), output, command, task):
                print(line)
        except UserError as error:
            # Hydra would make a warning of it.
            print(f"jsrl: error: {error}", file=sys.stderr)
