"""Draws the report when all cells of a sweep are done, in whichever processes they were."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from jsrl.errors import UserError


class ReportCallback(Callback):
    """Hydra calls it in the process that launched the sweep."""

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        from jsrl.reproducibility.report import write_reports

        output = None if config.output is None else Path(config.output)
        try:
            for line in write_reports(Path(config.run_dir), output):
                print(line)
        except UserError as error:
            # Hydra would make a warning of it.
            print(f"jsrl: error: {error}", file=sys.stderr)
