"""TensorBoard: scalars of each seed, configuration, hyper-parameters, histograms, first page.

TensorBoard has one step axis: environment steps from 0 upwards, and the updates of pre-training
before them. So each curve is in order:
TensorBoard hides points of a tag whose steps start again, and what a resumed run purges after a
step never includes the pre-training.

TensorBoard gives a colour to each run, not to each tag. So that guide, combined policy and
exploration-policy have colours of their own in one chart, their means over the seeds are written a
second time, under the same tags, into runs named ``guide``, ``combined`` and ``exploration``.
"""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard.summary import hparams

from jsrl.loggers.appended import cannot_be_logged
from jsrl.loggers.event_files import OrderedSummaryWriter
from jsrl.loggers.metrics import Values, flatten
from jsrl.loggers.options import LoggerInputs, LoggerOptions, loggers
from jsrl.loggers.scalars import on_one_axis, scalars_of

POLICIES = ("guide", "combined", "exploration")

OF_A_POLICY = re.compile(
    rf"(?P<group>evaluation|collect)/(?P<policy>{'|'.join(POLICIES)})_(?P<measure>\w+)"
)
"""Names of what is known of each policy: ``evaluation/guide_success``, for instance."""

NOT_OF_A_POLICY = frozenset({"collect/guide_fraction", "collect/explorer_share"})

FIRST_PAGE: dict[str, dict[str, str]] = {
    "Overview": {
        "success: guide, combined, exploration": "evaluation/success",
        "return: guide, combined, exploration": "evaluation/return",
        "guide steps h": "curriculum/guide_steps",
        "curriculum stage": "curriculum/stage",
        "fraction of guide actions": "collect/guide_fraction",
        "the explorer's share of the actions": "collect/explorer_share",
        "return of training episodes: with the guide, explorer alone": "collect/return",
        "updates per second": "throughput/updates_per_second",
        "environment steps per second": "throughput/env_steps_per_second",
    },
    "Learning": {
        "loss of the value function": "loss/value",
        "loss of the critic": "loss/critic",
        "loss of the actor": "loss/actor",
        "value V": "value/v",
        "value Q": "value/q",
        "mean advantage": "advantage/mean",
        "mean weight": "weight/mean",
        "episode length: guide, combined, exploration": "evaluation/length",
    },
}
"""The custom-scalars page: category, chart, name of what the chart shows."""

OVER_POLICIES = ("evaluation/success", "evaluation/return", "evaluation/length", "collect/return")
"""Tags of the policies' own runs: a chart shows a curve of each."""

OF_EACH_SEED = ("curriculum/",)
"""Names whose chart shows every seed: a mean over curricula says little."""

SEEDLESS = ("throughput/", "memory/")

RESULTS = tuple(
    f"evaluation/{policy}_{measure}"
    for policy in reversed(POLICIES)
    for measure in ("success", "return")
)
"""The results in the hyper-parameters tab: the latest evaluation, at the end the final one.

They are written under ``hparam/``, as means over the seeds: TensorBoard shows runs with different
numbers of seeds side by side only where their tags are the same.
"""

SHOWN_FIRST = frozenset(
    {
        *("experiment", "env.id", "seeds", "start", "activation.name", "guide.kind"),
        *("learner.kind", "curriculum.kind", "offline.updates", "online.steps"),
    }
)
"""The settings in the first columns of the hyper-parameters tab."""


class TensorBoardLogger:
    """Writes TensorBoard event files.

    A value of each seed is tagged ``<group>/<name>/seed_<k>``, its mean over the seeds with a
    finite value ``<group>/<name>/mean``; with one seed, and for values without a seed, the tag is
    ``<group>/<name>``. Values that are not finite are left out. The mean of what a name says of
    one of the three policies, ``<group>/<policy>_<measure>``, is also ``<group>/<measure>`` in
    the run ``<policy>``.

    Args:
        directory: the run directory's ``tensorboard/``; in it there is a folder for each policy.
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
        self._purge_step = None if resume_from is None else self._axis(*resume_from) + 1
        self._start = -offline_updates if self._purge_step is None else self._purge_step
        self._policies: dict[str, OrderedSummaryWriter] = {}
        try:
            self._writer = OrderedSummaryWriter(directory, self._purge_step)
            self._writer.add_custom_scalars(self._layout())
            for policy in POLICIES:
                if (directory / policy).exists():
                    self._policy(policy)  # what is written again is hidden at once
        except OSError as error:
            raise cannot_be_logged(self.directory, error) from error

    def log(self, step: int, phase: str, values: Values) -> None:
        """Write the values of one step: ``[S]``, or a plain number."""
        axis = self._axis(step, phase)
        for name, value in values.items():
            tagged, mean = scalars_of(step, phase, name, value, self.seeds)
            for tag, number in tagged.items():
                self._scalar(tag, number, axis)
            if mean is not None:
                self._of_policy(name, mean, axis)

    def histogram(self, name: str, values: np.ndarray, step: int, phase: str = "online") -> None:
        """Write the distribution of the finite entries of ``values``, of any shape."""
        finite = np.asarray(values, dtype=np.float64)
        finite = finite[np.isfinite(finite)]
        if finite.size == 0:
            return
        try:
            self._writer.add_histogram(name, finite, self._axis(step, phase))
        except OSError as error:
            raise cannot_be_logged(self.directory, error) from error

    def embedding(self, name: str, points: np.ndarray, labels: Sequence[str], step: int) -> None:
        """Write points ``[N, D]`` with a label each for the projector; only finite ones."""
        finite = np.isfinite(points).all(1)
        kept = [label for label, good in zip(labels, finite, strict=True) if good]
        tag = name.replace("/", "_")  # a folder of the event files is named after it
        try:
            self._writer.add_embedding(points[finite], kept, global_step=step, tag=tag)
        except OSError as error:
            raise cannot_be_logged(self.directory, error) from error

    def image(self, name: str, png: bytes, step: int) -> None:
        """Show a picture that is already a PNG."""
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        try:
            self._writer.add_image(name, pixels, self._axis(step, "online"), dataformats="HWC")
        except OSError as error:
            raise cannot_be_logged(self.directory, error) from error

    def configuration(self, text: str, settings: Mapping[str, Any]) -> None:
        """Show the resolved configuration as text, and its settings in the hyper-parameters tab.

        A resumed run shows what it began with.

        Args:
            text: the configuration as YAML.
            settings: the same, nested; ``SummaryWriter.add_hparams`` would put it into a folder of
                its own, which TensorBoard shows as a second run, so it is written here.
        """
        if self._purge_step is not None:
            return
        indented = "".join(f"    {line}\n" for line in text.splitlines())  # Markdown: verbatim
        flat = {key: value for key, value in flatten(settings).items() if value is not None}
        experiment, session_start, _ = hparams(flat, dict.fromkeys(map(_result_tag, RESULTS), 0.0))
        try:
            self._writer.add_text("config", indented, self._start)
            for summary in (_with_first_columns(experiment), session_start):
                self._writer.add_summary(summary, self._start)
        except OSError as error:
            raise cannot_be_logged(self.directory, error) from error

    def flush(self) -> None:
        """Put everything on the disk."""
        try:
            for writer in (self._writer, *self._policies.values()):
                writer.flush()
        except OSError as error:
            raise cannot_be_logged(self.directory, error) from error

    def close(self, finished: bool = False) -> None:
        """Close the files; ``finished`` marks the run as complete in the hyper-parameters tab."""
        try:
            if finished:
                _, _, session_end = hparams({}, {})
                self._writer.add_summary(session_end, self._start)
            for writer in (self._writer, *self._policies.values()):
                writer.close()
        except OSError as error:
            raise cannot_be_logged(self.directory, error) from error

    def _scalar(self, tag: str, value: float, axis: int) -> None:
        try:
            self._writer.add_scalar(tag, value, axis)
        except OSError as error:
            raise cannot_be_logged(self.directory, error) from error

    def _of_policy(self, name: str, mean: float, axis: int) -> None:
        """What is known of a policy, in the policy's own run and among the results."""
        match = OF_A_POLICY.fullmatch(name)
        if match is None or name in NOT_OF_A_POLICY:
            return
        try:
            tag = f"{match['group']}/{match['measure']}"
            self._policy(match["policy"]).add_scalar(tag, mean, axis)
        except OSError as error:
            raise cannot_be_logged(self.directory, error) from error
        if name in RESULTS:
            self._scalar(_result_tag(name), mean, axis)

    def _policy(self, policy: str) -> OrderedSummaryWriter:
        """The run of a policy, begun with the first thing that is known of it."""
        if policy not in self._policies:
            folder = self.directory / policy
            self._policies[policy] = OrderedSummaryWriter(folder, self._purge_step)
        return self._policies[policy]

    def _axis(self, step: int, phase: str) -> int:
        return on_one_axis(step, phase, self._offline_updates)

    def _shown(self, name: str) -> str:
        """The tag that stands for ``name`` where there is no room for every seed."""
        if len(self.seeds) == 1 or name.startswith(SEEDLESS):
            return f"{name}$"
        # TensorBoard reads a chart's tags as the beginnings of regular expressions.
        return f"{name}/seed_" if name.startswith(OF_EACH_SEED) else f"{name}/mean"

    def _layout(self) -> dict[str, dict[str, list[Any]]]:
        return {
            category: {
                title: ["Multiline", [f"{name}$" if name in OVER_POLICIES else self._shown(name)]]
                for title, name in charts.items()
            }
            for category, charts in FIRST_PAGE.items()
        }


@loggers.register("tensorboard")
def make_tensorboard_logger(options: LoggerOptions, inputs: LoggerInputs) -> TensorBoardLogger:
    """The logger of a run, in ``tensorboard/`` of its folder."""
    return TensorBoardLogger(
        inputs.directory / "tensorboard",
        inputs.seeds,
        inputs.offline_updates,
        resume_from=inputs.resume_from,
    )


def _result_tag(name: str) -> str:
    """``hparam/exploration_success`` for ``evaluation/exploration_success``."""
    return f"hparam/{name.partition('/')[2]}"


def _with_first_columns(experiment: Any) -> Any:
    """Have TensorBoard show the settings that tell runs apart first.

    It puts those that differ between runs before the others, but cannot know which do where the
    runs say themselves what they have.
    """
    for value in experiment.value:
        data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for info in data.experiment.hparam_infos:
            info.differs = info.name in SHOWN_FIRST
        value.metadata.plugin_data.content = data.SerializeToString()
    return experiment
