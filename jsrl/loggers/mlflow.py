"""``logger=mlflow``: MLflow. It needs the extra ``mlflow``."""

import io
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from PIL import Image

from jsrl.core.errors import UserError
from jsrl.core.files import write_whole
from jsrl.loggers.metrics import Values, flatten
from jsrl.loggers.options import LoggerInputs, LoggerOptions, PartialLogger, loggers, package_of
from jsrl.loggers.scalars import on_one_axis, scalars_of

ALLOW_FILES = "MLFLOW_ALLOW_FILE_STORE"
"""The variable without which MLflow refuses a folder of files, and asks for a database."""
MOST_AT_ONCE = 100
"""Parameters in one call, of which MLflow takes no more."""


@dataclass
class MlflowOptions(LoggerOptions):
    """Of ``logger=mlflow``."""

    # A server or a database, as MLflow writes it; null: a folder of files, mlflow in the run.
    tracking_uri: str | None = None
    # The experiment that the run is put into, made if need be.
    project: str = "jsrl"
    # What the run is called there; null: as its folder.
    name: str | None = None

    def check(self) -> None:
        super().check()
        package_of("mlflow")


class MlflowLogger(PartialLogger):
    """Writes a run of MLflow, unless asked otherwise into ``mlflow/`` of the run directory.

    Those files are shown by ``MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri
    RUN/mlflow``, which needs the whole package ``mlflow``; the extra installs the part of it that
    writes. A value of each seed is the metric ``<group>/<name>/seed_<k>``, and its mean over
    the seeds ``<group>/<name>/mean``; with one seed, and for values without a seed, it is
    ``<group>/<name>``. Characters that MLflow refuses in a name become ``_``. Steps are those of
    the environment, from 0, and the updates of pre-training come before them. Histograms and
    embeddings are not written.

    A resumed run goes on under the same id, which ``mlflow_run_id`` in the run directory holds.
    MLflow cannot take points back: those that an interrupted run logged after its checkpoint stay,
    and appear a second time at the same step, with the same values where the run is resumed
    exactly. A run that began with another logger has only the points from the change on.

    Args:
        options: of the kind.
        inputs: see ``LoggerInputs``.

    Raises:
        UserError: if the package is not installed, or the store cannot be reached or written.
    """

    def __init__(self, options: MlflowOptions, inputs: LoggerInputs) -> None:
        self._mlflow = package_of("mlflow")
        self._seeds = tuple(inputs.seeds)
        self._offline_updates = inputs.offline_updates
        identity = inputs.directory / "mlflow_run_id"
        store = (inputs.directory / "mlflow").resolve().as_uri()
        with self._told_in_one_line():
            with _files_allowed():
                self._client = self._mlflow.MlflowClient(options.tracking_uri or store)
            self._goes_on = inputs.resume_from is not None and identity.exists()
            if self._goes_on:
                self._run = identity.read_text(encoding="utf-8").strip()
                self._client.update_run(self._run, status="RUNNING")
            else:
                name = options.name or inputs.directory.resolve().name
                experiment = self._experiment(options.project)
                self._run = self._client.create_run(experiment, run_name=name).info.run_id
                write_whole(identity, f"{self._run}\n".encode())

    def log(self, step: int, phase: str, values: Values) -> None:
        """Write the finite values of one step: ``[S]``, or a plain number."""
        axis, now = on_one_axis(step, phase, self._offline_updates), int(1000 * time.time())
        metric = self._mlflow.entities.Metric
        found = [
            metric(_as_mlflow_takes_it(tag), number, now, axis)
            for name, value in values.items()
            for tag, number in scalars_of(step, phase, name, value, self._seeds).tagged.items()
        ]
        with self._told_in_one_line():
            self._client.log_batch(self._run, metrics=found)

    def image(self, name: str, png: bytes, step: int) -> None:
        """Write a picture."""
        picture = Image.open(io.BytesIO(png)).convert("RGB")
        with self._told_in_one_line():
            self._client.log_image(
                self._run, picture, key=_as_mlflow_takes_it(name), step=step, synchronous=True
            )

    def configuration(self, text: str, settings: Mapping[str, Any]) -> None:
        """Write the settings as parameters, and as an artifact ``config.yaml``.

        MLflow lets no parameter change: those of a resumed run stay as they were at its beginning,
        and ``config.yaml`` tells how it went on.
        """
        parameter = self._mlflow.entities.Param
        flat = [parameter(key, str(value)) for key, value in flatten(settings).items()]
        with self._told_in_one_line():
            self._client.log_text(self._run, text, "config.yaml")
            if not self._goes_on:
                for first in range(0, len(flat), MOST_AT_ONCE):
                    some = flat[first : first + MOST_AT_ONCE]
                    self._client.log_batch(self._run, params=some)

    def close(self, finished: bool = False) -> None:
        """End the run; one that has not finished counts as killed there until it is resumed."""
        with self._told_in_one_line():
            self._client.set_terminated(self._run, "FINISHED" if finished else "KILLED")

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return str(self._client.create_experiment(name) if found is None else found.experiment_id)

    @contextmanager
    def _told_in_one_line(self) -> Iterator[None]:
        try:
            yield
        except (self._mlflow.MlflowException, OSError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"logger=mlflow: {reason}; see logger.tracking_uri, or choose another logger, then "
                "run the same command again"
            ) from error


@loggers.register("mlflow", MlflowOptions)
def make_mlflow_logger(options: MlflowOptions, inputs: LoggerInputs) -> MlflowLogger:
    """The logger of a run."""
    return MlflowLogger(options, inputs)


@contextmanager
def _files_allowed() -> Iterator[None]:
    """MLflow takes a folder of files for its store, which it otherwise asks one not to use."""
    before = os.environ.get(ALLOW_FILES)
    os.environ[ALLOW_FILES] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[ALLOW_FILES]
        else:
            os.environ[ALLOW_FILES] = before


def _as_mlflow_takes_it(name: str) -> str:
    return re.sub(r"[^\w\-. :/]", "_", name)
