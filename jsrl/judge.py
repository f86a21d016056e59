"""Evaluate a run's policies, and write down what comes out."""

import math
from collections.abc import Sequence
from typing import Any

from jsrl.config import TrainConfig
from jsrl.errors import UserError
from jsrl.evaluate import Evaluation, evaluate_modes, guide_steps_of_episodes, steps_to_success
from jsrl.parts import Parts
from jsrl.records import Recorder
from jsrl.seeding import Key
from jsrl.summary import MODES, normalized_scores
from jsrl.types import Curriculum

GUIDE_MEASUREMENT = "guide"
"""Key of the evaluation that measures H1; the others are keyed by their environment step."""

FINAL_EVALUATION = "final"

Scores = dict[str, list[float]]
"""For each measure the value of every seed."""


class Judge:
    """Evaluates guide, combined policy and exploration-policy of a run.

    Args:
        config: of the run.
        parts: what is evaluated.
        recorder: where the results go.
    """

    def __init__(self, config: TrainConfig, parts: Parts, recorder: Recorder) -> None:
        self._config = config
        self._parts = parts
        self._recorder = recorder

    def measure_guide(self, curricula: Sequence[Curriculum]) -> tuple[Scores, list[int]]:
        """The guide's scores, and H1 of every seed.

        Raises:
            UserError: if the curriculum is to decide on something that is not defined here.
        """
        config, episodes = self._config.curriculum, self._config.curriculum.initial_episodes
        measured = self._evaluate(("guide",), curricula, episodes, GUIDE_MEASUREMENT)["guide"]
        scores = self._scores(measured)
        failed = self._parts.non_finite()
        # A seed that failed has no scores, whatever is measured.
        of_others = [v for v, bad in zip(scores[config.metric], failed, strict=True) if not bad]
        if config.kind == "jsrl" and of_others and all(math.isnan(value) for value in of_others):
            raise UserError(
                f"curriculum.metric={config.metric} is undefined for {self._parts.spec.id}: its "
                f"info has no {self._config.env.success_key!r}; set env.success_key to the entry "
                "that says so, or curriculum.metric=return"
            )
        steps, solved = steps_to_success(measured)
        given = config.initial_guide_steps
        if given is not None:
            steps = [given] * len(steps)
        elif not all(solved):
            unsolved = [s for s, ok in zip(self._config.seeds, solved, strict=True) if not ok]
            self._recorder.say(
                f"the guide of seed {listed(unsolved)} solved none of {episodes} episodes: "
                "H1 is the mean length of all of them"
            )
        self._recorder.say(
            f"guide alone over {episodes} episodes: {config.metric} "
            f"{listed(scores[config.metric])}; H1 = {listed(steps)} steps"
        )
        return scores, steps

    def evaluate(
        self, modes: Sequence[str], curricula: Sequence[Curriculum], step: int
    ) -> dict[str, Scores]:
        """Evaluate some modes at an environment step, and record them."""
        results = self._evaluate(modes, curricula, self._config.evaluation.episodes, step)
        scores = {mode: self._scores(result) for mode, result in results.items()}
        self.record(scores, curricula, step)
        return scores

    def evaluate_finally(self, curricula: Sequence[Curriculum], step: int) -> dict[str, Scores]:
        """Evaluate all modes of the final policy, and record them."""
        episodes = self._config.evaluation.final_episodes
        results = self._evaluate(MODES, curricula, episodes, FINAL_EVALUATION)
        scores = {mode: self._scores(result) for mode, result in results.items()}
        self._recorder.loggers.log(step, "final", _by_name(scores))
        return scores

    def record(self, scores: dict[str, Scores], curricula: Sequence[Curriculum], step: int) -> None:
        """Write scores down, with the guide steps that they belong to."""
        steps = guide_steps_of_episodes(
            curricula, self._parts.streams, self._config.evaluation.episodes, step
        )
        values: dict[str, Any] = {
            **_by_name(scores),
            "curriculum/guide_steps": steps.mean(1).tolist(),
            "curriculum/stage": [curriculum.stage for curriculum in curricula],
        }
        self._recorder.loggers.log(step, "online", values)
        self._recorder.show(
            step,
            stage=listed(values["curriculum/stage"]),
            h=listed(values["curriculum/guide_steps"]),
        )

    def _evaluate(
        self, modes: Sequence[str], curricula: Sequence[Curriculum], episodes: int, key: Key
    ) -> dict[str, Evaluation]:
        return evaluate_modes(
            self._parts.evaluator,
            modes,
            self._parts.learner.policy(),
            self._parts.guide_in_evaluation,
            guide_steps_of_episodes(curricula, self._parts.streams, episodes, key),
            key,
        )

    def _scores(self, evaluation: Evaluation) -> Scores:
        """Means with their normalised score; nothing but NaN for seeds that failed."""
        env, means = self._config.env, evaluation.means()
        scores = means | {
            "normalized_score": normalized_scores(means, env.score_metric, env.score_range)
        }
        failed = self._parts.non_finite()
        return {
            name: [math.nan if bad else v for v, bad in zip(values, failed, strict=True)]
            for name, values in scores.items()
        }


def listed(values: Sequence[float]) -> str:
    """Numbers for a line of text."""
    return ", ".join(f"{value:.4g}" for value in values)


def _by_name(scores: dict[str, Scores]) -> dict[str, list[float]]:
    return {
        f"evaluation/{mode}_{name}": values
        for mode, measures in scores.items()
        for name, values in measures.items()
    }
