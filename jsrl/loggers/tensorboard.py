"""TensorBoard: scalars of each seed, configuration, hyper-parameters, histograms, first page.

TensorBoard has one step axis. Environment steps run from 0 upwards on it and the updates of
offline pre-training stand before them, from ``-offline_updates`` to 0. So each curve is in order:
TensorBoard hides points of a tag whose steps start again, and what a resumed run purges after a
step never includes the pre-training.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from jsrl.errors import UserError
from jsrl.loggers.jsonl import records_of
from jsrl.loggers.records import Values, flatten

POLICIES = ("guide", "combined", "exploration")

FIRST_PAGE: dict[str, dict[str, tuple[str, ...]]] = {
    "Overview": {
        "success: guide, combined, exploration": tuple(
            f"evaluation/{policy}_success" for policy in POLICIES
        ),
        "return: guide, combined, exploration": tuple(
            f"evaluation/{policy}_return" for policy in POLICIES
        ),
        "guide steps h": ("curriculum/guide_steps",),
        "curriculum stage": ("curriculum/stage",),
        "fraction of guide actions": ("collect/guide_fraction",),
        "losses": ("loss/value", "loss/critic", "loss/actor"),
        "throughput (per second)": (
            "throughput/updates_per_second",
            "throughput/env_steps_per_second",
        ),
    },
    "Learning": {
        "values": ("value/v", "value/q"),
        "advantage": ("advantage/mean", "advantage/std"),
        "weight": ("weight/mean", "weight/max"),
        "episode length: guide, combined, exploration": tuple(
            f"evaluation/{policy}_length" for policy in POLICIES
        ),
    },
}
"""The custom-scalars page: category, chart, names of what the chart shows."""

OF_EACH_SEED = ("curriculum/",)
"""Names whose chart shows every seed: a mean over curricula says little."""

SEEDLESS = ("throughput/", "memory/")

RESULTS = tuple(
    f"evaluation/{policy}_{measure}" for policy in POLICIES for measure in ("success", "return")
)
"""The columns of the hyper-parameters tab."""


class TensorBoardLogger:
    """Writes TensorBoard event files.

    A value of each seed is tagged ``<group>/<name>/seed_<k>``, its mean over the seeds with a
    finite value ``<group>/<name>/mean``; with one seed, and for values without a seed, the tag is
    ``<group>/<name>``. Values that are not finite are left out.

    Args:
        directory: the run directory's ``tensorboard/``; no other folder is made.
        seeds: the seeds ``[S]``, in the order of the values to come.
        offline_updates: how many updates of pre-training stand before step 0.
        resume_from: step and phase of the checkpoint that a resumed run goes on from: events of
            later steps are hidden, as they will be written again. None in a new run.

    Raises:
        UserError: if the files cannot be written.
    """

    def __init__(
        self,
        directory: Path,
        seeds: Sequence[int],
        offline_updates: int = 0,
        resume_from: tuple[int, str] | None = None,
    ) -> None:
        self.directory = directory
        self.seeds = tuple(seeds)
        self._offline_updates = offline_updates
        purge_step = None if resume_from is None else self._axis(*resume_from) + 1
        self._start = -offline_updates if purge_step is None else purge_step
        self._session_end: Any = None
        try:
            self._writer = SummaryWriter(str(directory), purge_step=purge_step)
            self._writer.add_custom_scalars(self._layout())
        except OSError as error:
            raise self._failure(error) from error

    def log(self, step: int, phase: str, values: Values) -> None:
        """Write the values of one step: ``[S]``, or a plain number."""
        axis = self._axis(step, phase)
        for name, value in values.items():
            records = records_of(step, phase, name, value, self.seeds)
            split = len(records) > 1
            for record in records:
                if record.value is not None:
                    self._scalar(
                        f"{name}/seed_{record.seed}" if split else name, record.value, axis
                    )
            finite = [record.value for record in records if record.value is not None]
            if split and finite:
                self._scalar(f"{name}/mean", float(np.mean(finite)), axis)

    def histogram(self, name: str, values: np.ndarray, step: int, phase: str = "online") -> None:
        """Write the distribution of the finite entries of ``values``, of any shape."""
        finite = np.asarray(values, dtype=np.float64)
        finite = finite[np.isfinite(finite)]
        if finite.size == 0:
            return
        try:
            self._writer.add_histogram(name, finite, self._axis(step, phase))
        except OSError as error:
            raise self._failure(error) from error

    def embedding(self, name: str, points: np.ndarray, labels: Sequence[str], step: int) -> None:
        """Write points ``[N, D]`` with a label each for the projector; only finite ones."""
        finite = np.isfinite(points).all(1)
        kept = [label for label, good in zip(labels, finite, strict=True) if good]
        tag = name.replace("/", "_")  # a folder of the event files is named after it
        try:
            self._writer.add_embedding(points[finite], kept, global_step=step, tag=tag)
        except OSError as error:
            raise self._failure(error) from error

    def image(self, name: str, png: bytes, step: int) -> None:
        """Show a picture that is already a PNG."""
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        try:
            self._writer.add_image(name, pixels, self._axis(step, "online"), dataformats="HWC")
        except OSError as error:
            raise self._failure(error) from error

    def configuration(self, text: str, settings: Mapping[str, Any]) -> None:
        """Show the resolved configuration as text, and its settings in the hyper-parameters tab.

        Args:
            text: the configuration as YAML.
            settings: the same, nested; ``SummaryWriter.add_hparams`` would put it into a folder of
                its own, which TensorBoard shows as a second run, so it is written here.
        """
        indented = "".join(f"    {line}\n" for line in text.splitlines())  # Markdown: verbatim
        flat = {key: value for key, value in flatten(settings).items() if value is not None}
        results = {self._shown(name): 0.0 for name in RESULTS}
        experiment, session_start, self._session_end = hparams(flat, results)
        try:
            self._writer.add_text("config", indented, self._start)
            for summary in (experiment, session_start):
                self._summary(summary)
        except OSError as error:
            raise self._failure(error) from error

    def flush(self) -> None:
        """Put everything on the disk."""
        try:
            self._writer.flush()
        except OSError as error:
            raise self._failure(error) from error

    def close(self, finished: bool = False) -> None:
        """Close the files; ``finished`` marks the run as complete in the hyper-parameters tab."""
        try:
            if finished and self._session_end is not None:
                self._summary(self._session_end)
            self._writer.close()
        except OSError as error:
            raise self._failure(error) from error

    def _scalar(self, tag: str, value: float, axis: int) -> None:
        try:
            self._writer.add_scalar(tag, value, axis)
        except OSError as error:
            raise self._failure(error) from error

    def _summary(self, summary: Any) -> None:
        self._writer._get_file_writer().add_summary(summary, self._start)

    def _axis(self, step: int, phase: str) -> int:
        return step - self._offline_updates if phase == "offline" else step

    def _shown(self, name: str) -> str:
        """The one tag that stands for ``name`` where there is no room for every seed."""
        if len(self.seeds) == 1 or name.startswith(SEEDLESS):
            return name
        # TensorBoard reads a chart's tags as the beginnings of regular expressions.
        return f"{name}/seed_" if name.startswith(OF_EACH_SEED) else f"{name}/mean"

    def _layout(self) -> dict[str, dict[str, list[Any]]]:
        return {
            category: {
                title: ["Multiline", [self._shown(name) for name in names]]
                for title, names in charts.items()
            }
            for category, charts in FIRST_PAGE.items()
        }

    def _failure(self, error: OSError) -> UserError:
        return UserError(
            f"{self.directory}: cannot be written ({error.strerror or error}); free space or make"
            " the folder writable, then run the same command again to resume"
        )
