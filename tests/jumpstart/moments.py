"""Moments in which a rule of who acts is asked, made of random numbers, and plays of many."""

from dataclasses import replace

import numpy as np
import torch

from jsrl.core.arbitration import Beginning, Decision
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.jumpstart.arbiters import arbiters, build_arbiter

SEEDS, ENVS, ACTIONS, CRITICS = 2, 5, 3, 4
ROUNDS = 100
"""Of so many moments each, so that every oracle is asked for 1,000 rows."""


class Critics:
    """Says of the guide's and of the explorer's actions what is in a table."""

    def __init__(self, generator, seeds=SEEDS):
        def table():
            return torch.tensor(generator.normal(0, 0.1, (seeds, CRITICS, ENVS))).float()

        self.guide, self.explorer = table(), table()
        self.target_guide, self.target_explorer = table(), table()
        self.values = torch.tensor(generator.normal(0, 0.1, (seeds, ENVS))).float()

    def q(self, observation, action):
        # The guide's actions of these tests are positive, and the explorer's negative.
        return self.guide if action.min() >= 0 else self.explorer

    def target_q(self, observation, action):
        return self.target_guide if action.min() >= 0 else self.target_explorer

    def v(self, observation):
        return self.values


class GuideTable:
    """Says of the guide's actions, and of states, what is in a table."""

    def __init__(self, generator, seeds=SEEDS):
        tables = torch.tensor(generator.normal(0, 0.1, (3, seeds, ENVS))).float()
        self.log_prob, self.entropy, self.values = tables

    def log_prob_and_entropy(self, observation, action):
        assert action.min() >= 0
        return self.log_prob, self.entropy

    def v(self, observation):
        return self.values


def a_moment(generator, step=0, seeds=SEEDS, times=None, **changes):
    shape = (seeds, ENVS)
    found = Decision(
        observation=Observation(torch.zeros(*shape, 3)),
        times=torch.tensor(generator.integers(0, 30, shape)) if times is None else times,
        guide_steps=torch.tensor(generator.integers(0, 30, shape)),
        counts=torch.ones(shape, dtype=torch.bool),
        step=step,
        explores=True,
        guide=torch.tensor(generator.uniform(0, 1, (*shape, ACTIONS))).float(),
        explorer=-torch.tensor(generator.uniform(0, 1, (*shape, ACTIONS))).float(),
        critics=Critics(generator, seeds),
        guide_values=GuideTable(generator, seeds),
        takeover=torch.tensor(generator.choice([-1, 0, 1], shape, p=[0.1, 0.8, 0.1])),
    )
    seen = Observation(torch.tensor(generator.normal(size=(*shape, 3))).float())
    return replace(found, observation=seen, **changes)


def rule_of(kind, **options):
    return build_arbiter(arbiters[kind].options(kind=kind, **options))


def beginning(mask, finished=None, returns=None, successes=None):
    nothing = torch.zeros(mask.shape, dtype=torch.bool)
    zeros = torch.zeros(mask.shape, dtype=torch.float64)
    return Beginning(
        mask,
        torch.zeros(mask.shape, dtype=torch.int64),
        nothing if finished is None else finished,
        zeros if returns is None else returns,
        zeros if successes is None else successes,
        torch.ones(mask.shape, dtype=torch.int64),
    )


def play(rule, seeds, generator_of, rounds=40):
    """What a rule decides over episodes of each seed, ``[T, S, E]``; inputs follow the seed."""
    streams, state = Streams(seeds), rule.fresh(len(seeds), ENVS)
    generators = [generator_of(seed) for seed in seeds]
    times, shares = torch.zeros(len(seeds), ENVS, dtype=torch.int64), []
    for index in range(rounds):
        parts = [g.uniform(size=(3, ENVS)) for g in generators]
        drawn = torch.tensor(np.array(parts)).unbind(1)
        mask = drawn[0] < (1 if index == 0 else 0.2)
        finished = mask if index else torch.zeros_like(mask)
        ends = beginning(mask, finished, drawn[1], (drawn[2] < 0.5).double())
        state = rule.begin(ends, state, streams)
        times = torch.where(mask, 0, times + 1)
        own = [a_moment(g, 20 * index, 1, times[i : i + 1]) for i, g in enumerate(generators)]
        share, state = rule.decide(joined(own), state, streams)
        shares.append(share)
    return torch.stack(shares)


def joined(moments):
    """Moments of one seed each as one."""

    def cat(name):
        return torch.cat([getattr(moment, name) for moment in moments])

    tables = {"critics": Critics(np.random.default_rng(0))}
    tables["guide_values"] = GuideTable(np.random.default_rng(0))
    for part, table in tables.items():
        for name in vars(table):
            setattr(table, name, torch.cat([getattr(getattr(m, part), name) for m in moments]))
    names = ("times", "guide_steps", "counts", "guide", "explorer", "takeover")
    vectors = torch.cat([moment.observation.vector for moment in moments])
    first = replace(moments[0], observation=Observation(vectors), **tables)
    return replace(first, **{name: cat(name) for name in names})
