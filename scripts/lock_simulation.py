"""Many tabular Q-learners on the combination lock side by side, an episode of all of them at once.

It is what ``jsrl/lock-v0``, a table of Q and the package's own curricula and arbiters would do, see
``tests/envs/test_lock_study.py``, but does not step through time. Two properties of the lock make
that possible. After a wrong action nothing is paid any more, so that all values of those states
stay 0, and the table is the value of the right action in each of the H states before, ``[N, H]``.
And which actions would be right can be drawn for all steps of an episode together; what comes
behind the first wrong one does not count.

Shapes: N learners, H steps of an episode.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from jsrl.core.arbitration import ArbiterState, Beginning, Decision
from jsrl.core.episodes import Episode
from jsrl.core.observations import Observation
from jsrl.core.protocols import LearnsFromEpisodes
from jsrl.core.streams import Streams
from jsrl.envs.lock import combination_of
from jsrl.guides.lock import WRONG, LockOptions, actions_of
from jsrl.jumpstart.arbiters import arbiters, build_arbiter
from jsrl.jumpstart.curricula import curricula
from jsrl.jumpstart.curricula.base import DecidingOptions

DRAWN_AT_ONCE = 100_000
"""About how many actions of all learners together are drawn at once."""


@dataclass(frozen=True)
class Arm:
    """One way to learn to open the lock.

    Args:
        guide: options of ``guide=lock``; None where there is no guide.
        curriculum: ``kind`` and options of a curriculum.
        arbiter: ``kind`` and options of an arbiter.
        learns_from: ``all`` steps of an episode, or those of the ``explorer`` alone.
        actions: A.
        interval: episodes between two evaluations, where the curriculum decides on such.
        evaluation_episodes: of each of them.
        learning_rate: of the Q-learner.
        exploration: ε·H, the expected number of random actions in an episode of H learnt steps.
        limit: episodes after which a learner is given up.
    """

    guide: dict[str, Any] | None = None
    curriculum: dict[str, Any] = field(default_factory=lambda: {"kind": "none"})
    arbiter: dict[str, Any] = field(default_factory=lambda: {"kind": "handover"})
    learns_from: str = "all"
    actions: int = 2
    interval: int = 10
    evaluation_episodes: int = 20
    learning_rate: float = 1.0
    exploration: float = 1.0
    limit: int = 1_000_000


@dataclass
class Solved:
    """What N learners needed, and 0 episodes where a learner was given up.

    Args:
        episodes: of training, the one included after which the greedy policy opens the lock alone.
        evaluations: episodes of evaluations until then, those that measure the guide included.
    """

    episodes: np.ndarray
    evaluations: np.ndarray


def options_of(registry: Any, given: dict[str, Any]) -> Any:
    """Checked options of a kind, as a run would have them."""
    options = registry[given["kind"]].options(**given)
    options.check()
    return options


class Learners:
    """N learners that have not opened the lock yet.

    A learner's draws come from streams of its own seed, in an order that does not depend on how
    many others there are.

    Args:
        arm: how they learn.
        horizon: H.
        seeds: one a learner.
    """

    def __init__(self, arm: Arm, horizon: int, seeds: Sequence[int]) -> None:
        self.arm, self.horizon = arm, horizon
        # The learners do not know the combination: one is as good as any other.
        self.right = combination_of(0, horizon, arm.actions)
        self.values = np.zeros((len(seeds), horizon))
        self.streams = Streams(seeds, ("lock",))
        self.places = np.arange(len(seeds))
        self.epsilon = min(1.0, arm.exploration / horizon)
        guide = LockOptions("lock", **(arm.guide or {}))
        guide.check()
        self.slip, self.wrong = guide.slip(horizon), guide.otherwise == WRONG
        self.rule = build_arbiter(options_of(arbiters, arm.arbiter))
        self.state = self.rule.fresh(len(seeds), 1)
        self.options = options_of(curricula, arm.curriculum)
        self.decides = isinstance(self.options, DecidingOptions)
        self.curricula = [
            curricula.build(self.options, horizon, score) for score in self._guides_scores()
        ]
        self.observes = isinstance(self.curricula[0], LearnsFromEpisodes)
        self.planned = np.zeros(len(seeds), np.int64)
        self.succeeded = np.zeros(len(seeds), bool)
        self.drawn = np.empty((len(seeds), 0, horizon), np.float32)

    @property
    def solved(self) -> Bool[np.ndarray, " N"]:
        """Where the right action has the largest value in every state."""
        done: np.ndarray = (self.values > 0).all(1)
        return done

    def train(self, number: int) -> None:
        """One episode of each, the first one being number 0."""
        by_guide = self._who_acts(number)
        right = self._right(self._draws(), by_guide, self.epsilon)
        good = np.logical_and.accumulate(right, axis=1)
        # One step of Q-learning in each state; that of the next one comes later in the episode.
        after = np.concatenate([self.values[:, 1:], np.ones((len(self.values), 1))], axis=1)
        learnt = good if self.arm.learns_from == "all" else good & ~by_guide
        self.values += np.where(learnt, self.arm.learning_rate * (after - self.values), 0.0)
        self.succeeded = good[:, -1]
        if self.observes:
            for place, curriculum in enumerate(self.curricula):
                success, h = float(self.succeeded[place]), int(self.planned[place])
                episode = Episode(0, success, success, self.horizon, h, h)
                self.curricula[place] = curriculum.observe(episode)

    def evaluate(self, number: int) -> None:
        """Let the curricula decide on an evaluation of the combined policy, without exploration."""
        steps = np.array(
            [c.guide_steps(self.streams.select(i)) for i, c in enumerate(self.curricula)]
        )
        scores = self._scores(steps, self.arm.evaluation_episodes, number)
        self.curricula = [
            c.advance(score, number) for c, score in zip(self.curricula, scores, strict=True)
        ]

    def keep(self, rows: Bool[np.ndarray, " N"]) -> None:
        """Go on with these alone."""
        kept = np.flatnonzero(rows)
        streams = Streams([self.streams.seeds[i] for i in kept], self.streams.key)
        states = self.streams.state_dict()
        streams.load_state_dict([states[i] for i in kept])
        self.streams = streams
        self.curricula = [self.curricula[i] for i in kept]
        parts = (self.state.seeds, self.state.episodes)
        self.state = ArbiterState(*({n: t[kept] for n, t in part.items()} for part in parts))
        for name in ("values", "places", "planned", "succeeded", "drawn"):
            setattr(self, name, getattr(self, name)[kept])

    def _who_acts(self, number: int) -> Bool[np.ndarray, "N H"]:
        """Where the guide acts in the episode that begins.

        The rule is asked for all steps at once, as if each was in an environment of its own: what
        it remembers changes between episodes only.
        """
        count = len(self.curricula)
        ended = torch.full((count, 1), number > 0)
        succeeded = torch.from_numpy(self.succeeded)[:, None].double()
        if self.arm.guide is not None:
            for i, curriculum in enumerate(self.curricula):
                streams = self.streams.select(i).child("episode", number)
                self.planned[i] = curriculum.guide_steps(streams)
        steps = torch.from_numpy(self.planned)[:, None]
        lengths = torch.full((count, 1), self.horizon)
        beginning = Beginning(
            *(torch.ones(count, 1, dtype=torch.bool), steps, ended),
            *(succeeded, succeeded, lengths),
        )
        self.state = self.rule.begin(beginning, self.state, self.streams)
        times = torch.arange(self.horizon).expand(count, -1)
        moment = Decision(
            observation=Observation(torch.zeros(count, self.horizon, 0)),
            times=times,
            guide_steps=steps.expand_as(times),
            counts=torch.ones_like(times, dtype=torch.bool),
            step=number * self.horizon,
            explores=True,
        )
        share, self.state = self.rule.decide(moment, self.state, self.streams)
        by_guide: np.ndarray = np.broadcast_to(share.numpy() == 0, self.values.shape)
        return by_guide

    def _draws(self) -> Float[np.ndarray, "N H"]:
        """What settles the actions of the next episode, uniform on [0, 1)."""
        if self.drawn.shape[1] == 0:
            episodes = max(1, DRAWN_AT_ONCE // self.values.size)
            self.drawn = self.streams.uniform("action", (episodes, self.horizon)).numpy()
        drawn, self.drawn = self.drawn[:, 0], self.drawn[:, 1:]
        return drawn

    def _right(
        self,
        draws: Float[np.ndarray, "N *M H"],
        by_guide: Bool[np.ndarray, "N *M H"],
        epsilon: float,
    ) -> Bool[np.ndarray, "N *M H"]:
        """Which actions are right, if all before were: of the guide, or of the ε-greedy learner.

        Where nothing is learnt yet all actions are worth the same, and one is drawn evenly.
        """
        values = self.values.reshape(len(self.values), *[1] * (draws.ndim - 2), self.horizon)
        slips = np.where(by_guide, self.slip, np.where(values > 0, epsilon, 1.0))
        wrong = by_guide & self.wrong
        taken = actions_of(draws, slips, self.right, self.arm.actions, wrong=wrong)
        right: np.ndarray = taken == self.right
        return right

    def _scores(self, steps: np.ndarray, episodes: int, number: int) -> list[float]:
        """The success of each in so many episodes without exploration, h steps of them guided."""
        streams = self.streams.child("evaluation", number)
        draws = streams.uniform("action", (episodes, self.horizon)).numpy()
        by_guide = np.arange(self.horizon) < steps[:, None, None]
        opened = self._right(draws, by_guide, 0.0).all(-1)
        return [float(score) for score in opened.mean(1)]

    def _guides_scores(self) -> list[float]:
        """Of the guide alone, in as many episodes as the curriculum has it measured in."""
        if not self.decides:
            return [0.0] * len(self.values)
        whole = np.full(len(self.values), self.horizon)
        return self._scores(whole, self.options.initial_episodes, 0)


def learn(arm: Arm, horizon: int, seeds: Sequence[int]) -> Solved:
    """Let one learner a seed learn until its greedy policy opens the lock, or the limit.

    Args:
        arm: how they learn.
        horizon: H.
        seeds: one a learner.
    """
    learners = Learners(arm, horizon, seeds)
    found = Solved(np.zeros(len(seeds), np.int64), np.zeros(len(seeds), np.int64))
    for number in range(arm.limit):
        learners.train(number)
        solved = learners.solved
        if solved.any():
            places = learners.places[solved]
            found.episodes[places] = number + 1
            if learners.decides:
                evaluations = number // arm.interval * arm.evaluation_episodes
                found.evaluations[places] = learners.options.initial_episodes + evaluations
            if solved.all():
                break
            learners.keep(~solved)
        if learners.decides and (number + 1) % arm.interval == 0:
            learners.evaluate((number + 1) // arm.interval)
    return found
