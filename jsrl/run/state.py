"""What the stages of a run share: its components, how far it has come, and its checkpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from jsrl.core.episodes import Episode
from jsrl.core.interrupts import Interrupted, StopRequest
from jsrl.core.protocols import Curriculum, Metrics
from jsrl.jumpstart.curricula import (
    ConstantCurriculum,
    curricula,
    curriculum_state,
    restore_curriculum,
)
from jsrl.rollout.scores import PolicyScores
from jsrl.run.components import Components
from jsrl.run.directory import RunDirectory
from jsrl.run.evaluation import PolicyEvaluation
from jsrl.run.recorder import Recorder
from jsrl.run.start_lines import start_lines
from jsrl.settings.schema import TrainConfig

OFFLINE, MEASURE, WARM_UP, ONLINE = STAGES = ("offline", "measure", "warmup", "online")
"""The stages that a checkpoint names, in order."""


@dataclass
class Clock:
    """How far a run has come, as a checkpoint holds it.

    Args:
        stage: the stage under way, one of ``STAGES``.
        offline_updates: updates of pre-training that are done.
        warmup_steps: steps of each seed in the critic's warm-up.
        steps: steps of each seed in online learning.
    """

    stage: str = OFFLINE
    offline_updates: int = 0
    warmup_steps: int = 0
    steps: int = 0

    def is_past(self, stage: str) -> bool:
        """Whether a later stage than this one is under way."""
        return STAGES.index(self.stage) > STAGES.index(stage)

    def position(self) -> tuple[int, str]:
        """The last update or step that was done, and its phase in the records."""
        if not self.is_past(MEASURE):
            return self.offline_updates, "offline"
        if self.stage == WARM_UP:
            return self.warmup_steps, "critic_warmup"
        return self.steps, "online"


class RunState:
    """The state of one run, which its stages change and its checkpoints keep.

    Args:
        config: the typed configuration.
        resolved: the same as nested plain values.
        folder: of the run, locked.
        stop: whether a signal has asked the run to stop.
        saved: the newest checkpoint; None for a run that begins.

    Raises:
        UserError: if a component cannot be made, or is not what it was when it was saved.
    """

    def __init__(
        self,
        config: TrainConfig,
        resolved: Mapping[str, Any],
        folder: RunDirectory,
        stop: StopRequest,
        saved: dict[str, Any] | None,
    ) -> None:
        self.config = config
        self.folder = folder
        self.components = Components(config, folder.dataset)
        for line in start_lines(self.components):
            print(line, flush=True)
        self.clock = Clock(**saved["clock"]) if saved else Clock()
        self.guide_scores: PolicyScores | None = None
        self.curricula: list[Curriculum] = [ConstantCurriculum() for _ in config.seeds]
        self.summary: dict[str, Any] | None = None
        # Of the last update, which may lie several steps, or a start of the process, ago.
        self.latest_metrics: Metrics = {}
        self._stop = stop
        self._reported_failures: set[int] = set()
        limit = self.components.spec.max_episode_steps
        self.recorder = Recorder(
            folder,
            config.seeds,
            config.offline.updates,
            logger=config.logger,
            state=saved["recorder"] if saved else None,
            resume_from=self.clock.position() if saved else None,
            time_limit=None if config.guide.kind == "none" else limit,
        )
        # Only now: a logger that refuses leaves the folder free for the corrected command.
        folder.begin(resolved)
        self.evaluation = PolicyEvaluation(config, self.components, self.recorder)
        self.monitor = self.components.make_monitor(folder.monitor)
        if saved:
            self._load(saved)
        elif self.monitor is not None:
            self.monitor.begin()
        text = yaml.safe_dump(dict(resolved), sort_keys=False)
        self.recorder.loggers.configuration(text, resolved)

    def begin_progress(self, description: str, total: int, done: int) -> None:
        """Show progress of a stage of ``total`` updates or steps, of which ``done`` are done."""
        self.recorder.begin_stage(description, total, done, **self.counts())

    def step(self, curricula: Sequence[Curriculum]) -> list[Episode]:
        """One step of all environments, and the updates due for it; the episodes that ended."""
        metrics, episodes, share = self.components.runner.step(self.components.guide, curricula)
        self.latest_metrics = metrics or self.latest_metrics
        self.recorder.episodes(episodes, share, self.components.runner.collector)
        return episodes

    def is_due(self, done: int, interval: int) -> bool:
        """Whether a multiple of the interval was reached in the last step of all environments."""
        return done // interval > (done - self.config.env.num_envs) // interval

    def record(self, step: int, phase: str, metrics: Metrics) -> None:
        """Write down the metrics of an update, and which seeds are no longer finite."""
        self.recorder.record(step, phase, metrics, **self.counts())
        for index, failed in enumerate(self.components.non_finite()):
            if failed and index not in self._reported_failures:
                self._reported_failures.add(index)
                self.recorder.say(
                    f"seed {self.config.seeds[index]} is no longer finite at {phase} step {step}: "
                    "it is frozen and reported as failed; the others go on"
                )

    def counts(self) -> dict[str, int]:
        """Updates and environment steps of all seeds since the run began."""
        seeds, runner = len(self.config.seeds), self.components.runner
        updates = (self.clock.offline_updates + runner.updates) * seeds
        return {"updates": updates, "env_steps": runner.steps * seeds}

    def save_if_due(self, done: int) -> None:
        """Save if a multiple of the interval was reached, or if the run was asked to stop.

        Raises:
            Interrupted: if it was asked to stop, once everything is saved.
        """
        stride = 1 if self.clock.stage == OFFLINE else self.config.env.num_envs
        interval = self.config.checkpoint.interval
        if self._stop.signal_number is not None or done // interval > (done - stride) // interval:
            self.save()
        self.leave_if_asked()

    def leave_if_asked(self) -> None:
        """End the run if a signal has asked for it.

        Raises:
            Interrupted: if so.
        """
        if self._stop.signal_number is not None:
            raise Interrupted(self._stop.signal_number)

    def save(self) -> None:
        """Write a checkpoint."""
        began = self.clock.stage == ONLINE and (self.clock.steps > 0 or self.config.start != "cold")
        guide = self.guide_scores
        self.recorder.loggers.flush()
        self.folder.checkpoints.save(
            {
                "clock": asdict(self.clock),
                "policies": self.components.policies(exploration_began=began),
                "guide_evaluation": {} if guide is None else guide.per_seed,
                "guide_scores": {} if guide is None else guide.state_dict(),
                "curricula": [curriculum_state(curriculum) for curriculum in self.curricula],
                "reported_failures": sorted(self._reported_failures),
                "evaluation_cost": self.evaluation.cost.state_dict(),
                "latest_metrics": self.latest_metrics,
                "recorder": self.recorder.state_dict(),
                "monitor": None if self.monitor is None else self.monitor.state_dict(),
                **self.components.state_dict(),
            }
        )

    def close(self) -> None:
        """Close files and environments."""
        self.recorder.close(finished=self.summary is not None)
        self.components.close()

    def _load(self, saved: dict[str, Any]) -> None:
        strayed = self.components.load_state_dict(saved, guide_frozen=self.clock.is_past(OFFLINE))
        if saved["guide_evaluation"]:
            self.guide_scores = PolicyScores.restored(
                saved["guide_evaluation"], saved.get("guide_scores", {})
            )
        self._reported_failures = set(saved["reported_failures"])
        self.latest_metrics = saved["latest_metrics"]
        self.evaluation.cost.load_state_dict(saved.get("evaluation_cost"))
        if self.monitor is not None:
            self.monitor.load_state_dict(saved["monitor"])
        if self.clock.is_past(MEASURE) and self.components.guide is not None:
            self.curricula = [
                restore_curriculum(curricula.build(self.config.curriculum, 0, 0.0), values)
                for values in saved["curricula"]
            ]
        done, _ = self.clock.position()
        self.recorder.say(f"resuming {self.folder.path} in stage {self.clock.stage} at {done}")
        if strayed:
            self.recorder.say(
                f"environments {strayed} did not replay their unfinished episodes (this "
                "environment is not deterministic, or the run was begun on another processor): "
                "they begin new ones, and this run is not identical to an uninterrupted one"
            )
