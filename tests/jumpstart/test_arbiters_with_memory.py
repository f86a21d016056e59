"""Rules of who acts that remember something, each against its words written once more."""

import math

import numpy as np
import pytest
import torch
from jumpstart.moments import (
    ENVS,
    ROUNDS,
    SEEDS,
    a_moment,
    beginning,
    rule_of,
)

from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.jumpstart.arbiters import arbiters


def test_roll_in_stops_for_good_with_a_geometric_coin():
    rule, generator = rule_of("roll_in", probability=0.6, going_on=0.8), np.random.default_rng(1)
    state, streams, twins = rule.fresh(SEEDS, ENVS), Streams([3, 8]), Streams([3, 8])
    rolling, times = {}, torch.zeros(SEEDS, ENVS, dtype=torch.int64)
    shares = []
    for index in range(ROUNDS):
        mask = torch.tensor(generator.uniform(size=(SEEDS, ENVS)) < (1 if index == 0 else 0.2))
        state = rule.begin(beginning(mask), state, streams)
        u = twins.uniform("arbiter_begin", (ENVS,), mask.any(1).tolist())
        times = torch.where(mask, 0, times + 1)
        rolling |= {tuple(p): bool(u[tuple(p)] < 0.6) for p in mask.nonzero().tolist()}
        share, state = rule.decide(a_moment(generator, times=times), state, streams)
        u = twins.uniform("arbiter", (ENVS,))
        for place in rolling:
            rolling[place] &= bool(times[place] == 0 or u[place] < 0.8)
            assert share[place] == float(not rolling[place])
        shares.append(share)
    assert 0.3 < torch.stack(shares).mean() < 0.95


def test_calf_lets_the_explorer_act_where_the_value_rises_and_else_less_and_less():
    options = {"improvement": 0.05, "relaxation": 0.4, "relaxation_factor": 0.9}
    rule, generator = rule_of("calf", **options), np.random.default_rng(2)
    state, streams, twins = rule.fresh(SEEDS, ENVS), Streams([3, 8]), Streams([3, 8])
    best, times = {}, torch.zeros(SEEDS, ENVS, dtype=torch.int64)
    improved = 0
    for index in range(ROUNDS):
        mask = torch.tensor(generator.uniform(size=(SEEDS, ENVS)) < (1 if index == 0 else 0.1))
        state = rule.begin(beginning(mask), state, streams)
        times = torch.where(mask, 0, times + 1)
        moment = a_moment(generator, times=times)
        share, state = rule.decide(moment, state, streams)
        u = twins.uniform("arbiter", (ENVS,))
        for s, e in np.ndindex(SEEDS, ENVS):
            v = moment.critics.values[s, e]
            if mask[s, e]:
                best[s, e] = v
            rises = bool(v - best[s, e] >= 0.05)
            relaxed = float(u[s, e]) < 0.4 * 0.9 ** int(times[s, e])
            assert share[s, e] == float(rises or relaxed)
            improved += rises
            best[s, e] = v if rises else best[s, e]
    assert improved > 10


class RollBackInWords:
    """The stages of one seed as the class has them in its docstring, from all scores each time."""

    def __init__(self, rise, tolerance, window, last):
        self.rise, self.tolerance, self.window, self.last = rise, tolerance, window, last
        self.stage, self.back, self.values, self.scores = 0, False, [], {}

    def ended(self, value, began_in):
        if began_in != self.stage or math.isnan(value):
            return
        self.values.append(value)
        if len(self.values) < self.window:
            return
        mean = sum(self.values) / self.window
        self.values = []
        if self.stage > 0 or 0 not in self.scores:
            self.scores[self.stage] = mean
        guide = self.scores[0]
        if mean >= guide:
            highest = max(self.scores)
            self.stage, self.back = (
                (highest, False) if self.back else (min(self.stage + 1, self.last), False)
            )
        elif self.stage > 0 and mean < guide - (1 - self.tolerance) * abs(guide):
            below = [(score, k) for k, score in self.scores.items() if k < self.stage]
            self.stage, self.back = max(below)[1], True

    def share(self):
        return min(1.0, self.stage * self.rise)


@pytest.mark.parametrize("metric", ["success", "return"])
def test_roll_back_rises_and_falls_as_its_words_say(metric):
    options = {"increment": 0.3, "tolerance": 0.8, "window": 3, "metric": metric}
    rule, generator = rule_of("roll_back", **options), np.random.default_rng(4)
    streams, twins = Streams([3, 8]), Streams([3, 8])
    state = rule.fresh(SEEDS, ENVS)
    words = [RollBackInWords(0.3, 0.8, 3, 4) for _ in range(SEEDS)]
    began_in = np.zeros((SEEDS, ENVS), int)
    stages, fell = set(), 0
    for _ in range(400):
        mask = torch.tensor(generator.uniform(size=(SEEDS, ENVS)) < 0.4)
        finished = mask & torch.tensor(generator.uniform(size=(SEEDS, ENVS)) < 0.9)
        values = torch.tensor(
            generator.choice([0.0, 1.0, math.nan], (SEEDS, ENVS), p=[0.3, 0.6, 0.1])
        )
        if metric == "return":
            values = 3 * values - 5
        named = {"successes" if metric == "success" else "returns": values}
        state = rule.begin(beginning(mask, finished, **named), state, streams)
        for s in range(SEEDS):
            before = words[s].stage
            for e in range(ENVS):
                if finished[s, e]:
                    words[s].ended(float(values[s, e]), began_in[s, e])
            fell += words[s].stage < before
            began_in[s][mask[s].numpy()] = words[s].stage
            stages.add(words[s].stage)
        share, state = rule.decide(a_moment(generator), state, streams)
        u = twins.uniform("arbiter", (ENVS,))
        expected = [[float(u[s, e] < words[s].share()) for e in range(ENVS)] for s in range(SEEDS)]
        assert share.tolist() == expected
    assert stages == {0, 1, 2, 3, 4}
    assert fell > 3


def test_the_rise_of_roll_back_follows_from_the_horizon():
    options = arbiters["roll_back"].options(increment=None, tolerance=0.5, horizon=10)
    # With the guide's share 1 - rise, ten steps in a row are all the guide's every second time.
    assert (1 - options.rise) ** 10 == pytest.approx(0.5)
    with pytest.raises(UserError, match=r"arbiter\.increment=None.*arbiter\.horizon=1000"):
        arbiters["roll_back"].options(increment=None, tolerance=0.9, horizon=1000).check()
