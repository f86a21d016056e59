"""The composition root: the stages of a run, in order.

Dataset → offline pre-training → guide frozen and measured → critic warm-up (if asked for) →
Jump-Start RL online → final evaluation. The one feedback of the method, evaluation → next number
of guide steps, is carried here and nowhere else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from jsrl.build import build_curriculum
from jsrl.checks import check
from jsrl.config import TrainConfig
from jsrl.curricula import ConstantCurriculum, curriculum_state, restore_curriculum
from jsrl.figures import learning_curve
from jsrl.interrupts import Interrupted, StopRequest
from jsrl.judge import Judge
from jsrl.loggers import read_records
from jsrl.parts import Parts
from jsrl.records import Recorder
from jsrl.run_directory import RunDirectory
from jsrl.summary import summarise_evaluations, versions
from jsrl.types import Curriculum, Metrics, Phase


@dataclass
class Clock:
    """How far a run has come. ``stage`` is ``offline``, ``measure``, ``warmup`` or ``online``."""

    stage: str = "offline"
    offline_updates: int = 0
    warmup_steps: int = 0
    steps: int = 0


def train(config: TrainConfig, resolved: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Run an experiment, or resume it, in its folder.

    Args:
        config: the typed configuration.
        resolved: the same as nested plain values, as ``config.yaml`` holds them.
        directory: the run directory.

    Returns:
        The contents of ``summary.json``.

    Raises:
        UserError: for anything that the user can mend.
        Interrupted: after SIGTERM or Ctrl-C, once everything is saved.
    """
    check(config)
    # With more threads than free cores PyTorch's CPU kernels wait for one another.
    torch.set_num_threads(config.threads)
    with RunDirectory(directory, config.checkpoint.keep) as folder, StopRequest() as stop:
        state = folder.resume(resolved)
        summary = folder.read_summary()
        if state and summary and state["clock"]["steps"] >= config.online.steps:
            print(f"{directory} holds this run, finished: nothing to do; see its summary.json")
            return summary
        if state is None:
            folder.discard_leftovers(dataset=config.dataset.kind == "waypoint")
        run = Run(config, resolved, folder, stop, state)
        try:
            return run.complete()
        finally:
            run.close()


class Run:
    """One run: its parts, how far it has come, and the stages that remain."""

    def __init__(
        self,
        config: TrainConfig,
        resolved: Mapping[str, Any],
        folder: RunDirectory,
        stop: StopRequest,
        state: dict[str, Any] | None,
    ) -> None:
        self.config = config
        self.resolved = resolved
        self.folder = folder
        self.stop = stop
        self.parts = Parts(config, folder.dataset)
        if self.parts.dataset is not None:
            print(self.parts.dataset.summary(), flush=True)
        folder.begin(resolved)
        self.clock = Clock(**state["clock"]) if state else Clock()
        self.guide_evaluation: dict[str, list[float]] = {}
        self.curricula: list[Curriculum] = [ConstantCurriculum() for _ in config.seeds]
        self.reported_failures: set[int] = set()
        # Of the last update, which may lie several steps, or a start of the process, ago.
        self.latest_metrics: Metrics = {}
        self.finished = False
        self.recorder = Recorder(
            folder,
            config.seeds,
            config.offline.updates,
            tensorboard=config.logger.tensorboard,
            progress=config.logger.progress,
            state=state["recorder"] if state else None,
            resume_from=self._position() if state else None,
        )
        self.judge = Judge(config, self.parts, self.recorder)
        self.monitor = self.parts.make_monitor(folder.monitor)
        if state:
            self._load(state)
        else:
            if self.monitor is not None:
                self.monitor.begin()
            text = yaml.safe_dump(dict(resolved), sort_keys=False)
            self.recorder.loggers.configuration(text, resolved)

    def complete(self) -> dict[str, Any]:
        """Everything that is left to do."""
        if self.clock.stage == "offline":
            self._pretrain()
            self.parts.freeze_guide()
            self._enter("measure")
        if self.clock.stage == "measure":
            self._measure_guide()
            self.parts.start_exploration()
            if self.monitor is not None:
                self.parts.record_data(self.monitor)
            self.parts.learner.start_phase(Phase.CRITIC_WARMUP, 0)
            self._enter("warmup")
        if self.clock.stage == "warmup":
            self._warm_up_critic()
            self.parts.learner.start_phase(Phase.ONLINE, self.config.online.steps)
            self._enter("online")
        self._learn_online()
        self._save()
        return self._finish()

    def close(self) -> None:
        self.recorder.close(finished=self.finished)
        self.parts.close()

    def _pretrain(self) -> None:
        """Offline pre-training of the learner that becomes the guide."""
        learner, total = self.parts.guide_learner, self.config.offline.updates
        if learner is None or total == 0:
            return
        if self.clock.offline_updates == 0:
            learner.start_phase(Phase.OFFLINE, total)
        replay, streams = self.parts.offline_replay(), self.parts.offline_streams
        draws = self.parts.offline_draws
        self.recorder.begin_stage("pre-training the guide", total, self.clock.offline_updates)
        while self.clock.offline_updates < total:
            metrics = learner.update(replay.sample(streams), learner.draws(draws))
            self.clock.offline_updates += 1
            done = self.clock.offline_updates
            if done % self.config.logger.interval == 0 or done == total:
                self._record(done, "offline", metrics)
            self._save_if_due(done)

    def _measure_guide(self) -> None:
        """How well the guide does, and how many steps it takes: H1 and the curricula."""
        if self.parts.guide is None:
            return
        config = self.config.curriculum
        self.guide_evaluation, steps = self.judge.measure_guide(self.curricula)
        self.curricula = [
            build_curriculum(config, h1, score)
            for h1, score in zip(steps, self.guide_evaluation[config.metric], strict=True)
        ]
        self.judge.record({"guide": self.guide_evaluation}, self.curricula, 0)

    def _warm_up_critic(self) -> None:
        """The guide acts to the end of every episode; the actor is left as it is."""
        total = self.config.online.critic_warmup_steps
        if total == 0:
            return
        whole = ConstantCurriculum(self.parts.spec.max_episode_steps, stage=-1)
        throughout = [whole] * len(self.curricula)
        self.recorder.begin_stage("warming up the critic", total, self.clock.warmup_steps)
        while self.clock.warmup_steps < total:
            self._step(throughout)
            self.clock.warmup_steps += self.config.env.num_envs
            done = self.clock.warmup_steps
            if self._due(done, self.config.logger.interval):
                self._record(done, "critic_warmup", self.latest_metrics)
            self._save_if_due(done)

    def _learn_online(self) -> None:
        """Jump-Start RL: step, learn, evaluate, and let the curricula move on."""
        total = self.config.online.steps
        self.recorder.begin_stage("learning online", total, self.clock.steps)
        if self.clock.steps == 0 and total > 0:
            self.judge.evaluate(("combined", "exploration"), self.curricula, 0)
        while self.clock.steps < total:
            self._step(self.curricula)
            self.clock.steps += self.config.env.num_envs
            if self._due(self.clock.steps, self.config.logger.interval):
                self._record(self.clock.steps, "online", self.latest_metrics)
            self._evaluate_if_due()
            self._save_if_due(self.clock.steps)

    def _step(self, curricula: Sequence[Curriculum]) -> None:
        """One step of all environments, and the updates due for it."""
        metrics, episodes, share = self.parts.runner.step(self.parts.guide, curricula)
        self.latest_metrics = metrics or self.latest_metrics
        self.recorder.episodes(episodes, share)

    def _evaluate_if_due(self) -> None:
        step, decide_on = self.clock.steps, self.config.curriculum.decide_on
        reports = self._due(step, self.config.evaluation.interval)
        decides = self.config.curriculum.kind not in ("none", "constant", "random") and self._due(
            step, self.config.curriculum.interval
        )
        if not reports and not decides:
            return
        modes = ("combined", "exploration") if reports else (decide_on,)
        evaluations = self.judge.evaluate(modes, self.curricula, step)
        if decides:
            scores = evaluations[decide_on][self.config.curriculum.metric]
            self.curricula = [
                curriculum.advance(score, step)
                for curriculum, score in zip(self.curricula, scores, strict=True)
            ]
        if reports:
            latest = runner_actions(self.parts, self.config.evaluation.interval)
            self.recorder.loggers.histogram("collect/actions", latest, step)
            self._look_at_inputs(step)

    def _look_at_inputs(self, step: int) -> None:
        """Tell of inputs that are not like those before; learning goes on."""
        if self.monitor is not None:
            for line in self.monitor.check(step, self.recorder.loggers):
                self.recorder.say(line)

    def _record(self, step: int, phase: str, metrics: Metrics) -> None:
        seeds, runner = len(self.config.seeds), self.parts.runner
        updates = (self.clock.offline_updates + runner.updates) * seeds
        self.recorder.record(step, phase, metrics, updates, runner.steps * seeds)
        for index, failed in enumerate(self.parts.non_finite()):
            if failed and index not in self.reported_failures:
                self.reported_failures.add(index)
                self.recorder.say(
                    f"seed {self.config.seeds[index]} is no longer finite at {phase} step {step}: "
                    "it is frozen and reported as failed; the others go on"
                )

    def _position(self) -> tuple[int, str]:
        """The last update or step that was done, and its phase in the records."""
        clock = self.clock
        if clock.stage in ("offline", "measure"):
            return clock.offline_updates, "offline"
        if clock.stage == "warmup":
            return clock.warmup_steps, "critic_warmup"
        return clock.steps, "online"

    def _due(self, done: int, interval: int) -> bool:
        """Whether a multiple of the interval was reached in the last step of all environments."""
        return done // interval > (done - self.config.env.num_envs) // interval

    def _enter(self, stage: str) -> None:
        self.recorder.end_stage()
        self.clock.stage = stage
        # Before the guide was measured there is nothing to lose, unless it was trained here: a
        # run that its guide stops at once leaves the folder free for the corrected command.
        if stage != "measure" or self.clock.offline_updates > 0:
            self._save()
        self._leave_if_asked()

    def _save_if_due(self, done: int) -> None:
        stride = 1 if self.clock.stage == "offline" else self.config.env.num_envs
        interval = self.config.checkpoint.interval
        if self.stop.signal_number is not None or done // interval > (done - stride) // interval:
            self._save()
        self._leave_if_asked()

    def _leave_if_asked(self) -> None:
        if self.stop.signal_number is not None:
            raise Interrupted(self.stop.signal_number)

    def _save(self) -> None:
        began = self.clock.stage == "online" and (
            self.clock.steps > 0 or self.config.start != "cold"
        )
        self.recorder.loggers.flush()
        self.folder.checkpoints.save(
            {
                "clock": asdict(self.clock),
                "policies": self.parts.policies(exploration_began=began),
                "guide_evaluation": self.guide_evaluation,
                "curricula": [curriculum_state(curriculum) for curriculum in self.curricula],
                "reported_failures": sorted(self.reported_failures),
                "latest_metrics": self.latest_metrics,
                "recorder": self.recorder.state_dict(),
                "monitor": None if self.monitor is None else self.monitor.state_dict(),
                **self.parts.state_dict(),
            }
        )

    def _load(self, state: dict[str, Any]) -> None:
        measured = self.clock.stage in ("warmup", "online")
        strayed = self.parts.load_state_dict(state, guide_frozen=self.clock.stage != "offline")
        self.guide_evaluation = state["guide_evaluation"]
        self.reported_failures = set(state["reported_failures"])
        self.latest_metrics = state["latest_metrics"]
        if self.monitor is not None:
            self.monitor.load_state_dict(state["monitor"])
        if measured and self.parts.guide is not None:
            self.curricula = [
                restore_curriculum(build_curriculum(self.config.curriculum, 0, 0.0), values)
                for values in state["curricula"]
            ]
        done, _ = self._position()
        self.recorder.say(f"resuming {self.folder.path} in stage {self.clock.stage} at {done}")
        if strayed:
            self.recorder.say(
                f"environments {strayed} did not replay their unfinished episodes (this "
                "environment is not deterministic): they begin new ones, and this run is not "
                "identical to an uninterrupted one"
            )

    def _finish(self) -> dict[str, Any]:
        """Evaluate the final policy, draw the learning curve, write the summary."""
        self.recorder.end_stage()
        config, runner = self.config, self.parts.runner
        evaluations = self.judge.evaluate_finally(self.curricula, self.clock.steps)
        if self.monitor is not None:
            self.monitor.flush()
            self.monitor.show(self.clock.steps, self.recorder.loggers)
            self.monitor.keep_reference(self.parts.evaluator, self.parts.learner.policy())
        self.recorder.loggers.flush()
        title = config.experiment or "jsrl"
        learning_curve(self.folder.figure, read_records(self.folder.metrics), title)
        seeds, seconds = len(config.seeds), self.recorder.stopwatch.total()
        updates = (self.clock.offline_updates + runner.updates) * seeds
        summary = {
            "experiment": config.experiment,
            "seeds": list(config.seeds),
            "env_steps": runner.steps * seeds,
            "updates": updates,
            "wall_seconds": seconds,
            "updates_per_second": updates / seconds,
            "env_steps_per_second": runner.steps * seeds / seconds,
            "guide_steps": [int(h) for h in runner.collector.guide_steps.max(1)],
            "failed_seeds": [
                s for s, bad in zip(config.seeds, self.parts.non_finite(), strict=True) if bad
            ],
            "dataset": None if self.parts.dataset is None else self.parts.dataset.fingerprint,
            "versions": versions(),
            "evaluation": summarise_evaluations(evaluations, seeds),
        }
        self.folder.write_summary(summary)
        self.finished = True
        return summary


def runner_actions(parts: Parts, count: int) -> np.ndarray:
    """The actions of the last ``count`` steps of every seed, for a histogram."""
    rows = parts.runner.buffer.latest(count)
    actions: np.ndarray = rows[..., parts.layout.action].numpy()
    return actions
