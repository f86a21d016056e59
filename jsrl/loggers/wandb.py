"""``logger=wandb``: Weights & Biases. It needs the extra ``wandb``."""

import io
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jsrl.core.errors import UserError
from jsrl.core.files import write_whole
from jsrl.loggers.metrics import Values
from jsrl.loggers.options import LoggerInputs, LoggerOptions, PartialLogger, loggers, package_of
from jsrl.loggers.scalars import on_one_axis, scalars_of

MODES = ("online", "offline")
AXIS = "step"
"""The name under which the step of a point is logged: what charts have on their horizontal axis."""


@dataclass
class WandbOptions(LoggerOptions):
    """Of ``logger=wandb``."""

    # online sends what is logged; offline keeps it in the run directory, for wandb sync to send.
    mode: str = "online"
    # The project that the run is put into.
    project: str = "jsrl"
    # The user or team that the project belongs to; null: who is logged in.
    entity: str | None = None
    # What the run is called there; null: as its folder.
    name: str | None = None

    def check(self) -> None:
        super().check()
        package_of("wandb")
        if self.mode not in MODES:
            raise UserError(
                f"logger.mode={self.mode!r} is unknown; choose one of {', '.join(MODES)}"
            )


class WandbLogger(PartialLogger):
    """Writes a run of Weights & Biases, its files in ``wandb/`` of the run directory.

    A value of each seed is ``<group>/<name>/seed_<k>``, and its mean over the seeds
    ``<group>/<name>/mean``; with one seed, and for values without a seed, it is ``<group>/<name>``.
    ``step`` is the axis: environment steps from 0, and the updates of pre-training before them.
    Embeddings are not written.

    A resumed run goes on under the same id, which ``wandb/run_id`` holds. Weights & Biases cannot
    take points back: those that an interrupted run logged after its checkpoint stay, and appear a
    second time at the same step, with the same values where the run is resumed exactly. A run that
    began with another logger has only the points from the change on. With ``mode=offline`` every
    start leaves a folder ``wandb/offline-run-*`` of its own, all of them with the same id.

    Args:
        options: of the kind.
        inputs: see ``LoggerInputs``.

    Raises:
        UserError: if the package is not installed, nobody is logged in, or nothing can be written.
    """

    def __init__(self, options: WandbOptions, inputs: LoggerInputs) -> None:
        self._wandb = package_of("wandb")
        self._seeds = tuple(inputs.seeds)
        self._offline_updates = inputs.offline_updates
        folder = inputs.directory / "wandb"
        was_there = folder.exists()
        try:
            self._run = self._begin(options, inputs, folder / "run_id")
        except UserError:
            # A start that is refused leaves nothing behind.
            if not was_there:
                shutil.rmtree(folder, ignore_errors=True)
            raise

    def _begin(self, options: WandbOptions, inputs: LoggerInputs, identity: Path) -> Any:
        """The run of Weights & Biases, whose id is kept in a file."""
        resumed = inputs.resume_from is not None and identity.exists()
        with self._told_in_one_line():
            identity.parent.mkdir(parents=True, exist_ok=True)
            run = self._wandb.init(
                project=options.project,
                entity=options.entity,
                name=options.name or inputs.directory.resolve().name,
                id=identity.read_text(encoding="utf-8").strip() if resumed else None,
                resume="allow",
                mode=options.mode,
                dir=str(inputs.directory),
                # Runs that others have open in this process are none of ours.
                reinit="create_new",
                settings=self._wandb.Settings(silent=True, console="off"),
            )
            run.define_metric("*", step_metric=AXIS)
            write_whole(identity, f"{run.id}\n".encode())
        return run

    def log(self, step: int, phase: str, values: Values) -> None:
        """Write the finite values of one step: ``[S]``, or a plain number."""
        found: dict[str, float] = {}
        for name, value in values.items():
            found |= scalars_of(step, phase, name, value, self._seeds).tagged
        self._log(found, step, phase)

    def histogram(self, name: str, values: np.ndarray, step: int, phase: str = "online") -> None:
        """Write the distribution of the finite entries of ``values``, of any shape."""
        finite = np.asarray(values, dtype=np.float64)
        finite = finite[np.isfinite(finite)]
        if finite.size:
            self._log({name: self._wandb.Histogram(finite)}, step, phase)

    def image(self, name: str, png: bytes, step: int) -> None:
        """Write a picture."""
        picture = Image.open(io.BytesIO(png)).convert("RGB")
        self._log({name: self._wandb.Image(picture)}, step, "online")

    def configuration(self, text: str, settings: Mapping[str, Any]) -> None:
        """Write the settings as the run's configuration; a resumed run may change some of them."""
        with self._told_in_one_line():
            self._run.config.update(dict(settings), allow_val_change=True)

    def close(self, finished: bool = False) -> None:
        """End the run; one that has not finished counts as failed there until it is resumed."""
        with self._told_in_one_line():
            self._run.finish(exit_code=0 if finished else 1)

    def _log(self, values: Mapping[str, Any], step: int, phase: str) -> None:
        with self._told_in_one_line():
            self._run.log({AXIS: on_one_axis(step, phase, self._offline_updates), **values})

    @contextmanager
    def _told_in_one_line(self) -> Iterator[None]:
        try:
            yield
        except (self._wandb.Error, OSError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"logger=wandb: {reason}; log in by wandb login, or choose logger.mode=offline or "
                "another logger, then run the same command again"
            ) from error


@loggers.register("wandb", WandbOptions)
def make_wandb_logger(options: WandbOptions, inputs: LoggerInputs) -> WandbLogger:
    """The logger of a run."""
    return WandbLogger(options, inputs)
