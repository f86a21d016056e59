"""The study of attacks on one policy: what they do to it, and who notices."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams
from jsrl.envs.make import EnvSettings
from jsrl.monitor.capture.layers import LayerCapture
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.studies.attack_adaptive import Activations, half_widths, keeps_statistics
from jsrl.monitor.studies.attack_columns import (
    named_columns,
    require_real_columns,
    tied_columns,
    untied_line,
)
from jsrl.monitor.studies.attack_detection import WindowSettings, rejections
from jsrl.monitor.studies.attack_goals import (
    Values,
    another_choice,
    answers,
    change_of_answers,
    largest_distance,
    lowest_value,
    policy_logits,
    require_differentiable,
)
from jsrl.monitor.studies.attack_records import CLEAN, NOISE, Row
from jsrl.monitor.studies.attack_rollout import Attacker, attacked_episodes
from jsrl.monitor.studies.attacks import AttackOptions, Ball, Objective, attacks
from jsrl.monitor.studies.attacks.base import LOWEST_Q, sizes_of
from jsrl.networks.seed_policy import SeedPolicy
from jsrl.rollout.evaluator import Evaluation

MOST_ROWS = 1000
"""Trusted rows on which attacks are fitted, and changes of actions are measured."""


@dataclass(frozen=True)
class EpisodeSettings:
    """How episodes are played.

    Args:
        episodes: of each attack at each size.
        num_envs: environments that run at a time.
        interval: steps from one that is watched to the next.
        layers: a regular expression of the layers that are watched.
    """

    episodes: int
    num_envs: int
    interval: int
    layers: str


class PolicyUnderAttack:
    """A policy of one seed with trusted episodes of its own.

    Args:
        policy: S = 1.
        seed: whose policy it is.
        values: its learner's critics, for ``attack.goal=lowest_q``; None without.
        env: the environment that it acts in.
        spec: its spaces.
        options: of the attack.
        episodes: how episodes are played.
        windows: how they are tested.

    Raises:
        UserError: if the policy cannot be attacked, a column is unknown, or the goal does not go
            with what the policy does.
    """

    def __init__(
        self,
        policy: SeedPolicy,
        seed: int,
        values: Values | None,
        env: EnvSettings,
        spec: EnvSpec,
        options: AttackOptions,
        episodes: EpisodeSettings,
        windows: WindowSettings,
    ) -> None:
        self.policy = require_differentiable(policy)
        self.seed = seed
        self._env, self._spec, self._options = env, spec, options
        self._episodes, self._windows = episodes, windows
        layout = spec.observation.layout
        self._frozen = named_columns(options.frozen, layout, "attack.frozen")
        self._tied = tied_columns(options.tied, layout)
        require_real_columns(spec.observation, self._frozen)
        self._plain = self._goal(values)
        self._capture = LayerCapture(policy, episodes.layers)
        needed = windows.reference + episodes.episodes
        self._clean, self._evaluation = self._play(needed)
        if len(self._clean) < needed:
            raise UserError(
                f"only {len(self._clean)} of {needed} trusted episodes lasted until a step was "
                f"watched; lower interval={episodes.interval}"
            )
        self._trusted = Sample.concatenate(self._clean[: windows.reference], renumber=True)
        rows = torch.from_numpy(self._trusted.steps.observations)
        self._spread = rows.std(0)
        self.rows = rows[:: max(1, len(rows) // MOST_ROWS)]
        self._objective = self._adapted(self._plain)

    def warning(self) -> str | None:
        """A line on columns that should be tied; None where there are none."""
        return untied_line(
            self._trusted.steps.observations,
            self._tied,
            self._frozen,
            self._spec.observation.layout,
        )

    def study(self) -> Iterator[Row]:
        """The row without an attack, then the attack and the control at every size."""
        reference = self._windows.reference
        none = Row.of_evaluation(self.seed, CLEAN, 0.0, self._evaluation.after(reference))
        yield none.noticed(0.0, self._rejections(self._clean[reference:]))
        for kind in dict.fromkeys((self._options.kind, NOISE)):
            for epsilon in self._options.epsilons:
                attacker = self.attacker(kind, epsilon)
                played, evaluation = self._play(self._episodes.episodes, attacker)
                row = Row.of_evaluation(self.seed, kind, epsilon, evaluation)
                yield row.noticed(self.change(attacker), self._rejections(played))

    def attacker(self, kind: str, epsilon: float) -> Attacker:
        """An attack on this policy of so many standard deviations, ready."""
        options: Any = self._options if kind == self._options.kind else attacks[kind].options(kind)
        attack = attacks.build(options)
        ball = self._ball(epsilon)
        attack.fit(self._objective, self.rows, ball, self._streams("fit", kind))
        return Attacker(attack, self._objective, ball, self.seed)

    def change(self, attacker: Attacker, rows: Float[Tensor, "N O"] | None = None) -> float:
        """What an attack, perhaps made on another policy, does to this one's answers.

        Args:
            attacker: the attack.
            rows: where; None: in trusted rows of this policy.
        """
        clean = self.rows if rows is None else rows
        moved = clean + attacker.attack.perturbation(
            attacker.objective, clean, attacker.ball, self._streams("change")
        )
        with torch.no_grad():
            before, after = (answers(self.policy, given) for given in (clean, moved))
        return change_of_answers(before, after)

    def _goal(self, values: Values | None) -> Objective:
        """The objective of the options."""
        chooses = not answers(self.policy, torch.zeros(1, self._spec.observation.size)).ndim > 1
        if self._options.goal != LOWEST_Q:
            if chooses:
                return another_choice(policy_logits(self.policy))
            return largest_distance(lambda rows: answers(self.policy, rows))
        if chooses:
            raise UserError(
                "attack.goal=lowest_q follows the gradient of Q by real numbers, and this policy "
                "makes choices; use attack.goal=action"
            )
        if values is None:
            raise UserError(
                "attack.goal=lowest_q needs a learner with critics Q(s, a), which this run's "
                "learner has not; use attack.goal=action"
            )
        return lowest_value(self.policy, values)

    def _adapted(self, objective: Objective) -> Objective:
        """The objective of an attacker that keeps the layers' statistics, if it is one."""
        if not self._options.adaptive:
            return objective

        def call(rows: Float[Tensor, "N O"]) -> object:
            return self.policy(self.policy.encode(Observation(rows[None])))  # type: ignore[operator]

        activations = Activations(self.policy, self._capture.layers, call)
        widths = self._widths(activations.trusted(self._trusted.activations))
        return keeps_statistics(objective, activations, widths, self._options.penalty)

    def _widths(self, values: Float[Tensor, "N D"]) -> Float[Tensor, " D"]:
        return half_widths(values, self._trusted.steps.episode, self._options.quantile)

    def _ball(self, epsilon: float) -> Ball:
        sizes = sizes_of(self._options, epsilon, self._spread)
        if self._options.adaptive:
            rows = torch.from_numpy(self._trusted.steps.observations)
            sizes = torch.minimum(sizes, self._widths(rows))
        return Ball.of(sizes, self._tied, self._frozen)

    def _play(
        self, count: int, attacker: Attacker | None = None
    ) -> tuple[list[Sample], Evaluation]:
        o = self._episodes
        return attacked_episodes(
            *(self.policy, self._capture, self._env, self._spec),
            # Attacks are compared from the same start states, which the reference has not.
            self._streams("trusted" if attacker is None else "attacked"),
            *(count, o.num_envs, o.interval, attacker),
        )

    def _rejections(self, tested: Sequence[Sample]) -> dict[str, float]:
        return rejections(self._clean[: self._windows.reference], tested, self._windows)

    def _streams(self, *key: str) -> Streams:
        return Streams([self.seed], ("attack study", *key))


def transfer(policies: Sequence[PolicyUnderAttack], kind: str, epsilon: float) -> list[list[float]]:
    """The change of seed j's answers by an attack that was made on seed i, ``[i][j]``.

    All are measured in the trusted rows of the first policy, so that a column is comparable.

    Args:
        policies: of the seeds of one run.
        kind: of the attack.
        epsilon: its size, in the standard deviations that the attacked seed knows.
    """
    rows = policies[0].rows
    attackers = [policy.attacker(kind, epsilon) for policy in policies]
    return [[policy.change(attacker, rows) for policy in policies] for attacker in attackers]
