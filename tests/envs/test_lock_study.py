"""Learners side by side on the lock: against a table of Q that steps through the environment."""

import importlib
import sys
from collections import defaultdict
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from jsrl.core.arbitration import Beginning, Decision
from jsrl.core.episodes import Episode
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.envs.registration import LOCK_ID
from jsrl.guides.lock import LockOptions
from jsrl.jumpstart.arbiters import arbiters, build_arbiter
from jsrl.jumpstart.curricula import curricula

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def study():
    """The two scripts, imported."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield importlib.import_module("combination_lock")
    finally:
        sys.path.remove(str(SCRIPTS))


class Table:
    """One Q-learner that steps through the environment, guided by the package's own rules."""

    def __init__(self, arm, horizon, seed):
        self.arm, self.horizon = arm, horizon
        self.env = gym.make(LOCK_ID, horizon=horizon, actions=arm.actions)
        self.combination = self.env.unwrapped.combination.tolist()
        self.q = defaultdict(float)
        self.streams = Streams([seed], ("lock",))
        guide = LockOptions("lock", **(arm.guide or {}))
        self.slip, self.guide_is_wrong = guide.slip(horizon), guide.otherwise == "wrong"
        kind = arm.arbiter["kind"]
        self.rule = build_arbiter(arbiters[kind].options(**arm.arbiter))
        self.state = self.rule.fresh(1, 1)
        kind = arm.curriculum["kind"]
        options = curricula[kind].options(**arm.curriculum)
        self.evaluates = kind == "jsrl"
        self.curriculum = curricula.build(options, horizon, 0.0)
        if self.evaluates:
            score = self.evaluate(horizon, options.initial_episodes, 0)
            self.curriculum = curricula.build(options, horizon, score)
        self.before = None

    def best(self, state):
        values = [self.q[state, a] for a in range(self.arm.actions)]
        return [a for a, value in enumerate(values) if value == max(values)]

    def explorer(self, state, draw, epsilon):
        best = self.best(state)
        if len(best) > 1:
            return best[int(draw * len(best))]
        return int(draw / epsilon * self.arm.actions) if draw < epsilon else best[0]

    def guide(self, time, draw):
        right = self.combination[time]
        if draw >= self.slip:
            return right
        among = [a for a in range(self.arm.actions) if not self.guide_is_wrong or a != right]
        return among[int(draw / self.slip * len(among))]

    def share(self, number, time, steps):
        moment = Decision(
            observation=Observation(torch.zeros(1, 1, 0)),
            times=torch.tensor([[time]]),
            guide_steps=torch.tensor([[steps]]),
            counts=torch.ones(1, 1, dtype=torch.bool),
            step=number * self.horizon + time,
            explores=True,
        )
        share, self.state = self.rule.decide(moment, self.state, self.streams)
        return float(share)

    def episode(self, number):
        steps = 0
        if self.arm.guide is not None:
            steps = self.curriculum.guide_steps(self.streams.child("episode", number))
        success = torch.tensor([[float(self.before or 0)]]).double()
        self.state = self.rule.begin(
            Beginning(
                *(torch.tensor([[True]]), torch.tensor([[steps]])),
                *(torch.tensor([[self.before is not None]]), success, success),
                torch.tensor([[self.horizon]]),
            ),
            *(self.state, self.streams),
        )
        state, _ = self.env.reset()
        epsilon, ended, time = min(1.0, self.arm.exploration / self.horizon), False, 0
        while not ended:
            explores = self.share(number, time, steps) == 1
            draw = float(self.streams.uniform("action", (1,)))
            action = self.explorer(state, draw, epsilon) if explores else self.guide(time, draw)
            after, reward, ended, _, info = self.env.step(action)
            if explores or self.arm.learns_from == "all":
                following = 0.0 if ended else max(self.q[after, a] for a in range(self.arm.actions))
                error = reward + following - self.q[state, action]
                self.q[state, action] += self.arm.learning_rate * error
            state, time = after, time + 1
        self.before = info["success"]
        if hasattr(self.curriculum, "observe"):
            success = float(self.before)
            done = Episode(0, success, success, self.horizon, steps, steps)
            self.curriculum = self.curriculum.observe(done)

    def evaluate(self, steps, episodes, number):
        streams, opened = self.streams.child("evaluation", number), 0
        for _ in range(episodes):
            state, ended, time = self.env.reset()[0], False, 0
            while not ended:
                draw = float(streams.uniform("action", (1,)))
                guided = time < steps
                action = self.guide(time, draw) if guided else self.explorer(state, draw, 0.0)
                state, _, ended, _, info = self.env.step(action)
                time += 1
            opened += info["success"]
        return opened / episodes

    def opens_alone(self):
        state, ended = self.env.reset()[0], False
        while not ended:
            best = self.best(state)
            if len(best) > 1:
                return False
            state, _, ended, _, info = self.env.step(best[0])
        return info["success"]

    def learn(self):
        """The episodes until solved, those of evaluations until then, and how each one ended."""
        evaluated, ends = 100 if self.evaluates else 0, []
        for number in range(self.arm.limit):
            self.episode(number)
            ends.append(self.before)
            if self.opens_alone():
                return number + 1, evaluated, ends
            if self.evaluates and (number + 1) % self.arm.interval == 0:
                steps = self.curriculum.guide_steps(self.streams)
                count = self.arm.evaluation_episodes
                score = self.evaluate(steps, count, (number + 1) // self.arm.interval)
                self.curriculum = self.curriculum.advance(score, number)
                evaluated += count
        return 0, 0, ends


RIGHT, HALF, WRONG = {"quality": 1.0}, {"quality": 0.5, "per": "episode"}, {"quality": 0.0}
JSRL = {"kind": "jsrl", "stages": 6, "window": 1, "tolerance": 0.5}
THOMPSON, ROLL_BACK = {"kind": "thompson", "stages": 3}, {"kind": "roll_back", "window": 3}
ARMS = {
    "no guide": {},
    "three actions": {"actions": 3, "exploration": 2.0},
    "slowly": {"learning_rate": 0.5},
    "jsrl": {"guide": HALF, "curriculum": JSRL, "interval": 3, "evaluation_episodes": 4},
    "its own steps": {"guide": RIGHT, "curriculum": JSRL, "learns_from": "explorer", "interval": 2},
    "jsrl, wrong": {"guide": WRONG, "curriculum": JSRL, "interval": 4},
    "thompson": {"guide": {"quality": 0.8, "otherwise": "random"}, "curriculum": THOMPSON},
    "thompson, wrong": {"guide": WRONG, "curriculum": THOMPSON, "actions": 3},
    "roll-back": {"guide": HALF, "arbiter": ROLL_BACK, "learns_from": "explorer"},
    "roll-back, wrong": {"guide": WRONG, "arbiter": ROLL_BACK},
    "given up": {"limit": 5},
}


@pytest.mark.parametrize("name", ARMS)
def test_every_episode_ends_as_with_a_table_that_steps_through_the_environment(study, name):
    arm, seeds = study.Arm(**ARMS[name]), (100, 101)
    horizon = 4 if arm.actions == 2 else 3
    plain = [Table(arm, horizon, seed).learn() for seed in seeds]
    found = study.learn(arm, horizon, seeds)
    assert found.episodes.tolist() == [episodes for episodes, _, _ in plain]
    assert found.evaluations.tolist() == [evaluations for _, evaluations, _ in plain]
    simulation = sys.modules["lock_simulation"]
    for seed, (_, _, ends) in zip(seeds, plain, strict=True):
        alone = simulation.Learners(arm, horizon, [seed])
        for number, opened in enumerate(ends):
            alone.train(number)
            assert alone.succeeded.tolist() == [opened]
            if alone.decides and (number + 1) % arm.interval == 0:
                alone.evaluate((number + 1) // arm.interval)


def test_a_learner_alone_does_what_it_does_in_company(study):
    arm = study.Arm(guide=HALF, arbiter=ROLL_BACK, learns_from="explorer")
    together = study.learn(arm, 5, range(100, 105)).episodes
    alone = [study.learn(arm, 5, [seed]).episodes[0] for seed in range(100, 105)]
    assert together.tolist() == alone


@pytest.mark.parametrize(("horizon", "actions"), [(1, 2), (3, 2), (4, 2), (2, 4)])
def test_the_mean_is_that_of_the_markov_chain(study, horizon, actions):
    """The state is how many steps are learnt, which are the last ones.

    One more is learnt in an episode that gets to the first of them by chance.
    """
    chain = np.eye(horizon)
    for learnt in range(horizon):
        luck = float(actions) ** -(horizon - learnt)
        chain[learnt, learnt] = 1 - luck
        if learnt + 1 < horizon:
            chain[learnt, learnt + 1] = luck
    times = np.linalg.solve(np.eye(horizon) - chain, np.ones(horizon))
    found = study.learn(study.Arm(actions=actions), horizon, range(100, 500)).episodes
    error = found.std(ddof=1) / np.sqrt(len(found))
    assert abs(found.mean() - times[0]) < 4 * error
    assert times[0] == pytest.approx(sum(actions**k for k in range(1, horizon + 1)))


def test_slopes_are_those_of_known_laws(study):
    spread = 2.0 ** np.random.default_rng(0).normal(0, 0.5, 400)
    spread /= 2 ** np.log2(spread).mean()
    value, (low, high) = study.slope({h: 3 * 2.0**h * spread for h in (4, 6, 9)}, "exponential")
    assert value == pytest.approx(1) and 0.97 < low < 1 < high < 1.03
    value, (low, high) = study.slope({h: 5 * h**2.0 * spread for h in (10, 100)}, "polynomial")
    assert value == pytest.approx(2) and 1.95 < low < 2 < high < 2.05
    value, (low, high) = study.ratio(3 * spread, spread)
    assert value == pytest.approx(3) and 2.6 < low < 3 < high < 3.4


def test_every_arm_of_the_study_can_be_run(study):
    for name, listed in study.STUDIES.items():
        arm = listed.at(listed.horizons[0])
        sys.modules["lock_simulation"].Learners(arm, listed.horizons[0], [100]).train(0)
        assert listed.against is None or set(listed.horizons) <= set(
            study.STUDIES[listed.against].horizons
        ), name
