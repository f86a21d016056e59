"""The stages of a run: what each does, what has to be ready before it, and whether it is done.

How far a stage has come is in the run's ``Clock``, which every checkpoint holds.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from jsrl.core.episodes import Episode
from jsrl.core.protocols import LearnsFromEpisodes, Phase
from jsrl.jumpstart.curricula import ConstantCurriculum, DecidingOptions, curricula
from jsrl.loggers import read_records
from jsrl.report.figures import learning_curve
from jsrl.report.who_acts import picture_over_episode
from jsrl.rollout.learning import learn
from jsrl.run.state import MEASURE, OFFLINE, ONLINE, WARM_UP, RunState
from jsrl.run.summary import summarise_evaluations, versions


class Stage(ABC):
    """A part of a run that can be left at any update or step, and resumed.

    Args:
        state: of the run.
    """

    name: ClassVar[str]
    """What the clock of a checkpoint calls the stage."""

    def __init__(self, state: RunState) -> None:
        self._state = state

    @property
    def is_done(self) -> bool:
        """Whether nothing of it is left."""
        return self._state.clock.is_past(self.name)

    @abstractmethod
    def begin(self) -> None:
        """Make ready what it needs. The checkpoint after that is of this stage."""

    @abstractmethod
    def run(self) -> None:
        """All of it that is left."""


class PreTraining(Stage):
    """Offline pre-training of the learner whose policy becomes the guide."""

    name: ClassVar[str] = OFFLINE

    def begin(self) -> None:
        """A run begins with this stage, and has nothing before it."""

    def run(self) -> None:
        """Update on minibatches of the dataset until ``offline.updates`` are done."""
        state, clock, components = self._state, self._state.clock, self._state.components
        learner, total = components.guide_learner, state.config.offline.updates
        if learner is None or total == 0:
            return
        if clock.offline_updates == 0:
            learner.start_phase(Phase.OFFLINE, total)
        replay, streams = components.offline_replay(), components.offline_streams
        draws = components.offline_draws
        state.begin_progress("pre-training the guide", total, clock.offline_updates)
        while clock.offline_updates < total:
            metrics = learn(learner, replay, streams, draws)
            clock.offline_updates += 1
            done = clock.offline_updates
            if done % state.config.logger.interval == 0 or done == total:
                state.record(done, "offline", metrics)
            state.save_if_due(done)


class MeasuringTheGuide(Stage):
    """How well the guide does alone, how many steps it takes (H1), and the curricula from that."""

    name: ClassVar[str] = MEASURE

    def begin(self) -> None:
        """The pre-trained policy is frozen, and is the guide from here on, also in the data."""
        self._state.components.freeze_guide()
        self._state.components.foresee_data()

    def run(self) -> None:
        """Evaluate the guide, and make the curriculum of every seed."""
        state = self._state
        if state.components.guide is None:
            return
        config = state.config.curriculum
        if not state.config.guide.is_measured():
            # What a person can do is not asked for: ``checks`` has seen to it that H1 is given.
            h1 = config.given_guide_steps or 0
            state.curricula = [curricula.build(config, h1, -math.inf) for _ in state.curricula]
            return
        scores, starts, steps = state.evaluation.measure_guide(state.curricula)
        state.guide_scores = scores
        state.curricula = [
            curricula.build(config, h1, score)
            for h1, score in zip(steps, starts[config.metric], strict=True)
        ]
        state.evaluation.record({"guide": scores.per_seed}, state.curricula, 0)


class CriticWarmUp(Stage):
    """The guide acts to the end of every episode, and at most the critic learns from that.

    It does from ``online.learning_starts`` on.
    """

    name: ClassVar[str] = WARM_UP

    def begin(self) -> None:
        """The exploration-policy starts as ``start`` says, and its learner in this phase."""
        components, monitor = self._state.components, self._state.monitor
        components.start_exploration()
        if monitor is not None:
            components.record_data(monitor)
        components.trust_data()
        components.learner.start_phase(Phase.CRITIC_WARMUP, 0)

    def run(self) -> None:
        """Step until ``online.critic_warmup_steps`` are done."""
        state, clock = self._state, self._state.clock
        total = state.config.online.critic_warmup_steps
        if total == 0:
            return
        whole_episode = ConstantCurriculum(state.components.spec.max_episode_steps, stage=-1)
        throughout = [whole_episode] * len(state.curricula)
        collector = state.components.runner.collector
        collector.guide_alone = True
        learns = state.config.online.learning_starts < total
        what = "warming up the critic" if learns else "the guide acts alone"
        state.begin_progress(what, total, clock.warmup_steps)
        while clock.warmup_steps < total:
            state.step(throughout)
            clock.warmup_steps += state.config.env.num_envs
            if state.is_due(clock.warmup_steps, state.config.logger.interval):
                state.record(clock.warmup_steps, "critic_warmup", state.latest_metrics)
            state.save_if_due(clock.warmup_steps)
        collector.guide_alone = False


class OnlineLearning(Stage):
    """Jump-Start RL: step, learn, evaluate, and let the curricula move on.

    The one feedback of the method, from an evaluation or a training episode to the next number of
    guide steps, is here and nowhere else.
    """

    name: ClassVar[str] = ONLINE

    @property
    def is_done(self) -> bool:
        state = self._state
        return state.clock.stage == self.name and state.clock.steps >= state.config.online.steps

    def begin(self) -> None:
        """The learner's schedules are those of online learning."""
        state = self._state
        state.components.learner.start_phase(Phase.ONLINE, state.config.online.steps)

    def run(self) -> None:
        """Step until ``online.steps`` are done, and save what was learnt."""
        state, clock = self._state, self._state.clock
        total = state.config.online.steps
        state.begin_progress("learning online", total, clock.steps)
        if clock.steps == 0 and total > 0:
            state.evaluation.evaluate(state.evaluation.reported, state.curricula, 0)
        while clock.steps < total:
            self._observe(state.step(state.curricula))
            clock.steps += state.config.env.num_envs
            if state.is_due(clock.steps, state.config.logger.interval):
                state.record(clock.steps, "online", state.latest_metrics)
            self._evaluate_if_due()
            state.save_if_due(clock.steps)
        state.save()

    def _observe(self, episodes: Sequence[Episode]) -> None:
        """Show the curricula that learn from training episodes those of their seeds."""
        for episode in episodes:
            curriculum = self._state.curricula[episode.seed_index]
            if isinstance(curriculum, LearnsFromEpisodes):
                self._state.curricula[episode.seed_index] = curriculum.observe(episode)

    def _evaluate_if_due(self) -> None:
        state, step = self._state, self._state.clock.steps
        config = state.config.curriculum
        reports = state.is_due(step, state.config.evaluation.interval)
        decides = isinstance(config, DecidingOptions) and state.is_due(step, config.interval)
        if not reports and not decides:
            return
        modes = state.evaluation.reported if reports else ()
        deciding = config.decide_on if decides else None
        if deciding is not None and deciding not in modes:
            modes = (*modes, deciding)
        evaluations = state.evaluation.evaluate(modes, state.curricula, step, deciding)
        if deciding is not None:
            scores = evaluations[deciding][config.metric]
            state.curricula = [
                curriculum.advance(score, step)
                for curriculum, score in zip(state.curricula, scores, strict=True)
            ]
        if reports:
            state.recorder.loggers.histogram("collect/actions", self._latest_actions(), step)
            self._check_inputs()

    def _latest_actions(self) -> np.ndarray:
        """The actions of every seed since the evaluation before, for a histogram."""
        components = self._state.components
        return components.runner.latest_actions(self._state.config.evaluation.interval)

    def _check_inputs(self) -> None:
        """Tell of inputs that are not like those before; learning goes on."""
        state = self._state
        if state.monitor is not None:
            for line in state.monitor.check(state.clock.steps, state.recorder.loggers):
                state.recorder.say(line)


class FinalEvaluation(Stage):
    """Evaluates the final policy, draws the learning curve, and writes the summary.

    A checkpoint has no name for it: where it was interrupted, it is done again from its beginning.
    """

    name: ClassVar[str] = ONLINE

    @property
    def is_done(self) -> bool:
        return self._state.summary is not None

    def begin(self) -> None:
        """All is learnt, and there is nothing to make ready."""

    def run(self) -> None:
        """Evaluate, and write down what the run has come to."""
        state = self._state
        state.recorder.end_stage()
        config, components, steps = state.config, state.components, state.clock.steps
        evaluations = state.evaluation.evaluate_finally(state.curricula, steps, state.guide_scores)
        if state.monitor is not None:
            state.monitor.flush()
            state.monitor.show(steps, state.recorder.loggers)
            state.monitor.keep_reference(components.evaluator, components.learner.policy())
        state.recorder.loggers.flush()
        self._draw()
        counts, seconds = state.counts(), state.recorder.stopwatch.total()
        failed = zip(config.seeds, components.non_finite(), strict=True)
        summary = {
            "experiment": config.experiment,
            "seeds": list(config.seeds),
            **counts,
            "wall_seconds": seconds,
            **{f"{name}_per_second": count / seconds for name, count in counts.items()},
            "guide_steps": [int(h) for h in components.runner.collector.guide_steps.max(1)],
            "failed_seeds": [seed for seed, bad in failed if bad],
            "dataset": None if components.dataset is None else components.dataset.fingerprint,
            "versions": versions(),
            "evaluation_cost": state.evaluation.cost.counts,
            "evaluation": summarise_evaluations(evaluations, len(config.seeds)),
        }
        state.folder.write_summary(summary)
        state.summary = summary

    def _draw(self) -> None:
        """The learning curve, and for the logger who acted when in an episode."""
        state, records = self._state, read_records(self._state.folder.metrics)
        guide = {} if state.guide_scores is None else state.guide_scores.intervals
        band = {measure: intervals[0] for measure, intervals in guide.items()}
        title = state.config.experiment or "jsrl"
        learning_curve(state.folder.figure, records, title, band)
        picture = picture_over_episode(records)
        if picture is not None:
            loggers, steps = state.recorder.loggers, state.clock.steps
            loggers.image("explorer_share/over_the_episode", picture, steps)
