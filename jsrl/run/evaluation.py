"""Evaluation of a run's policies, and the record of what comes out.

The guide does not change once exploration begins. It is evaluated once, before, from the start
states of the final evaluation, and that is its figure wherever one is shown.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jsrl.core.protocols import Curriculum
from jsrl.core.streams import Key
from jsrl.guides import GuideOptions
from jsrl.jumpstart.arbiters import arbiters
from jsrl.jumpstart.curricula import DecidingOptions, MeasuredOptions
from jsrl.rollout.evaluator import (
    FINAL_EVALUATION,
    Evaluation,
    evaluate_modes,
    guide_steps_of_episodes,
    modes_to_play,
    steps_to_success,
)
from jsrl.rollout.scores import PolicyScores, Scores, score
from jsrl.run.components import Components
from jsrl.run.evaluation_cost import DECISION, GUIDE, REPORT, EvaluationCost, may_decide
from jsrl.run.recorder import Recorder
from jsrl.run.summary import value_with_interval
from jsrl.settings.schema import TrainConfig
from jsrl.statistics import summarise

PATIENCE = 5.0
"""Seconds that an evaluation between two stretches of training may last without a bar."""


def without_person(modes: Sequence[str], guide: GuideOptions) -> tuple[str, ...]:
    """Those of the modes that are evaluated: where a person guides, perhaps without the guide."""
    return tuple(mode for mode in modes if mode == "exploration" or guide.is_measured())


class PolicyEvaluation:
    """Evaluates guide, combined policy and exploration-policy of a run.

    Args:
        config: the configuration of the run.
        components: the components of the run, whose policies are evaluated.
        recorder: takes the results.
    """

    def __init__(self, config: TrainConfig, components: Components, recorder: Recorder) -> None:
        self._config = config
        self._components = components
        self._recorder = recorder
        self.cost = EvaluationCost(len(config.seeds))
        self._spoke_of_success = False

    @property
    def reported(self) -> tuple[str, ...]:
        """The modes that are evaluated for the record, whether or not anything goes by them."""
        return ("combined", "exploration") if self._config.evaluation.combined else ("exploration",)

    def measure_guide(
        self, curricula: Sequence[Curriculum]
    ) -> tuple[PolicyScores, Scores, list[int]]:
        """Evaluate the guide, alone.

        Returns:
            The guide's scores over ``evaluation.final_episodes`` episodes; its scores over
            ``curriculum.initial_episodes``, from which a curriculum starts; and, over these too,
            H1 of every seed. Both begin with the same episodes.
        """
        config, final = self._config.curriculum, self._config.evaluation.final_episodes
        episodes = max(config.initial_episodes, final)
        measured = self._evaluate(
            ("guide",), curricula, episodes, FINAL_EVALUATION, "measuring the guide"
        )["guide"]
        scores = self._scores(measured.first(final))
        initial = measured.first(config.initial_episodes)
        self.cost.add(GUIDE if config.goes_by_guide else REPORT, initial)
        self.cost.add(REPORT, measured.after(config.initial_episodes))
        starts = self._scores(initial).per_seed
        steps, solved = steps_to_success(initial)
        given = config.given_guide_steps
        if given is not None:
            steps = [given] * len(steps)
        elif not isinstance(config, MeasuredOptions):
            # Nobody asks for H1, and so nothing is said of it.
            self._recorder.say(self._guide_line(scores))
            return scores, starts, steps
        elif self._config.env.success_key is None:
            self._recorder.say(
                f"H1 is the mean length of all {config.initial_episodes} episodes of the guide: "
                "env.success_key=null, so that it is not known which are solved"
            )
        elif not all(solved):
            unsolved = [s for s, ok in zip(self._config.seeds, solved, strict=True) if not ok]
            self._recorder.say(
                f"the guide of seed {listed(unsolved)} solved none of {config.initial_episodes} "
                "episodes: H1 is the mean length of all of them"
            )
        self._recorder.say(f"{self._guide_line(scores)}; H1 = {listed(steps)} steps")
        return scores, starts, steps

    def evaluate(
        self,
        modes: Sequence[str],
        curricula: Sequence[Curriculum],
        step: int,
        decides: str | None = None,
    ) -> dict[str, Scores]:
        """Evaluate some modes at an environment step, and record them.

        Args:
            modes: which.
            curricula: of every seed.
            step: environment steps of each seed so far.
            decides: the mode, one of these, on which the curricula decide; None if they do not.
        """
        results = self._evaluate(
            *(modes, curricula, self._config.evaluation.episodes, step),
            *(f"evaluating at step {step}", PATIENCE),
        )
        for result in distinct(results):
            if decides is not None and result is results[decides]:
                self.cost.add(DECISION, result, may_decide(curricula))
            else:
                self.cost.add(REPORT, result)
        scores = {mode: self._scores(result).per_seed for mode, result in results.items()}
        self.record(scores, curricula, step)
        return scores

    def evaluate_finally(
        self, curricula: Sequence[Curriculum], step: int, guide: PolicyScores | None
    ) -> dict[str, PolicyScores]:
        """Evaluate the final policy, and record it beside the guide's scores, which stand."""
        episodes = self._config.evaluation.final_episodes
        results = self._evaluate(
            self.reported, curricula, episodes, FINAL_EVALUATION, "final evaluation"
        )
        for result in distinct(results):
            self.cost.add(REPORT, result)
        scores = {} if guide is None else {"guide": guide}
        scores |= {mode: self._scores(result) for mode, result in results.items()}
        per_seed = {mode: found.per_seed for mode, found in scores.items()}
        self._recorder.loggers.log(step, "final", _by_name(per_seed))
        return scores

    def record(self, scores: dict[str, Scores], curricula: Sequence[Curriculum], step: int) -> None:
        """Write scores down, with the guide steps that they belong to."""
        steps = guide_steps_of_episodes(
            curricula, self._components.streams, self._config.evaluation.episodes, step
        )
        values: dict[str, Any] = {
            **_by_name(scores),
            "curriculum/guide_steps": steps.mean(1).tolist(),
            "curriculum/stage": [curriculum.stage for curriculum in curricula],
            **self._cost_of_decisions(),
        }
        self._recorder.loggers.log(step, "online", values)
        handed_over = {
            "h": spread(values["curriculum/guide_steps"]),
            "stage": spread(values["curriculum/stage"]),
        }
        shown = handed_over if self._has_guide_steps() else {}
        self._recorder.show(step, **_evaluated(scores.get("exploration")), **shown)

    def _has_guide_steps(self) -> bool:
        """Whether the rule of who acts goes by an h, and the curriculum has one."""
        rule = arbiters[self._config.arbiter.kind].options
        return rule.uses_guide_steps and self._config.curriculum.kind != "none"

    def _cost_of_decisions(self) -> dict[str, list[int]]:
        """Episodes and steps so far in evaluations that a curriculum decided on, this one too."""
        if not isinstance(self._config.curriculum, DecidingOptions):
            return {}
        spent = self.cost.so_far(DECISION)
        return {f"curriculum/decision_{name}": values for name, values in spent.items()}

    def _evaluate(
        self,
        modes: Sequence[str],
        curricula: Sequence[Curriculum],
        episodes: int,
        key: Key,
        description: str,
        patience: float = 0.0,
    ) -> dict[str, Evaluation]:
        guide, evaluator = self._components.guide_in_evaluation, self._components.evaluator
        steps = guide_steps_of_episodes(curricula, self._components.streams, episodes, key)
        modes = without_person(modes, self._config.guide)
        arbiter = self._components.runner.collector.arbiter_in_force()
        total = len(modes_to_play(modes, guide, steps, arbiter)) * steps.size
        with self._recorder.counting(f"{description}, episode", total, patience) as told:
            evaluator.told = told
            try:
                policy = self._components.learner.policy()
                results = evaluate_modes(evaluator, modes, policy, guide, steps, key, arbiter)
            finally:
                evaluator.told = None
        self._say_if_success_is_unknown()
        return results

    def _scores(self, evaluation: Evaluation) -> PolicyScores:
        """With the normalised score, and nothing but NaN for seeds that failed."""
        env = self._config.env
        scores = score(evaluation, env.score_metric, env.score_range)
        return scores.without(self._components.non_finite())

    def _say_if_success_is_unknown(self) -> None:
        """After the first evaluation, whether the environment ever spoke of success."""
        if self._spoke_of_success:
            return
        self._spoke_of_success = True
        line, curriculum = self._components.evaluator.success_line(), self._config.curriculum
        if line is None:
            return
        if isinstance(curriculum, DecidingOptions) and curriculum.metric == "success":
            line += " (and curriculum.metric=return, since the curriculum goes by success)"
        self._recorder.say(line)

    def _guide_line(self, scores: PolicyScores) -> str:
        """Success and return of the guide, over all seeds, and the metric of every seed."""
        several, metric = len(self._config.seeds) > 1, self._config.curriculum.metric
        said = []
        for name in dict.fromkeys((metric, "success", "return")):
            values = scores.per_seed[name]
            found = {**summarise(values), "episodes_ci95": scores.intervals[name]}
            shown = value_with_interval(found, several)
            if shown:
                each = f" (of each seed {listed(values)})" if several and name == metric else ""
                said.append(f"{name} {shown}{each}")
        plural = "" if scores.episodes == 1 else "s"
        over = f"guide alone over {scores.episodes} episode{plural}"
        over += " of each seed" if several else ""
        intervals = f" (95 % intervals over {'seeds' if several else 'episodes'})"
        return f"{over}: {', '.join(said)}{intervals if '[' in ''.join(said) else ''}"


def distinct(results: Mapping[str, Evaluation]) -> list[Evaluation]:
    """Those of several modes, each once: where the guide never acts, two modes share theirs."""
    return list({id(result): result for result in results.values()}.values())


def listed(values: Sequence[float]) -> str:
    """Write numbers one after another, for a line of text."""
    return ", ".join(f"{value:.4g}" for value in values)


def spread(values: Sequence[float]) -> str:
    """Write one number where all are the same, and else the lowest and the highest."""
    low, high = min(values), max(values)
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"


def _evaluated(scores: Mapping[str, Sequence[float]] | None) -> dict[str, float]:
    """The success of an evaluation, else its return, as progress shows it: over all seeds."""
    if scores is not None:
        for name in ("success", "return"):
            mean = summarise(scores[name])["mean"]
            if mean is not None:
                return {f"evaluated {name}": mean}
    return {}


def _by_name(scores: dict[str, Scores]) -> dict[str, list[float]]:
    return {
        f"evaluation/{mode}_{name}": values
        for mode, measures in scores.items()
        for name, values in measures.items()
    }
