"""Rules of who acts, each against its formula written once more, row by row."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from jsrl.core.arbitration import (
    NEXT_GUIDE,
    Arbiter,
    ArbiterState,
    Beginning,
    DecidesByClock,
    Decision,
    HasTarget,
    Successors,
)
from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.jumpstart.arbiters import Committed, arbiters, build_arbiter

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


def least(q, seed, env):
    return min(q[seed, :, env].tolist())


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def coin(m, s, e, u):
    return float(u < min(0.2 + (0.9 - 0.2) * m.step / 700, 0.9))


def pex(m, s, e, u):
    weights = [math.exp(5.0 * least(q, s, e)) for q in (m.critics.explorer, m.critics.guide)]
    return float(u < weights[0] / sum(weights))


def ibrl(m, s, e, u):
    explorer, guide = m.critics.target_explorer, m.critics.target_guide
    return float(least(explorer, s, e) > least(guide, s, e))


def ibrl_softmax(m, s, e, u):
    explorer, guide = m.critics.target_explorer, m.critics.target_guide
    return float(u < sigmoid(10.0 * (least(explorer, s, e) - least(guide, s, e))))


def q2rl(m, s, e, u):
    own = m.guide_values
    estimate = own.values[s, e] + own.log_prob[s, e] + own.entropy[s, e]
    return float(least(m.critics.explorer, s, e) > estimate)


def cheq(m, s, e, u):
    if m.step < 200:
        return 0.0
    spread = float(np.std(m.critics.explorer[s, :, e].double().numpy()))
    if spread <= 0.03:
        return 1.0
    return 0.2 if spread >= 0.15 else 1.0 - 0.8 * (spread - 0.03) / 0.12


def residual(m, s, e, u):
    if not u < min(m.step / 500, 1):
        return 0.0
    away = max(abs(a - b) for a, b in zip(m.explorer[s, e], m.guide[s, e], strict=True))
    return min(1.0, 0.3 / float(away))


ORACLES = {
    "handover": ({}, lambda m, s, e, u: float(m.times[s, e] >= m.guide_steps[s, e])),
    "warm_up": ({"steps": 400}, lambda m, s, e, u: float(m.step >= 400)),
    "coin": (
        {"initial_probability": 0.2, "final_probability": 0.9, "schedule_steps": 700}, coin
    ),
    "pex": ({"inverse_temperature": 5.0}, pex),
    "ibrl": ({}, ibrl),
    "ibrl softmax": ({"inverse_temperature": 10.0}, ibrl_softmax),
    "q2rl": ({}, q2rl),
    "cheq": ({"warmup_steps": 200, "observe_share": False}, cheq),
    "residual": ({"bound": 0.3, "horizon": 500}, residual),
}  # fmt: skip


@pytest.mark.parametrize("name", ORACLES)
def test_a_rule_that_remembers_nothing_follows_its_formula(name):
    options, oracle = ORACLES[name]
    rule, generator = rule_of(name.split()[0], **options), np.random.default_rng(0)
    state, streams, twins = rule.fresh(SEEDS, ENVS), Streams([3, 8]), Streams([3, 8])
    found = []
    for index in range(ROUNDS):
        moment = a_moment(generator, step=10 * index)
        share, state = rule.decide(moment, state, streams)
        u = twins.uniform("arbiter", (ENVS,))
        expected = [
            [oracle(moment, s, e, float(u[s, e])) for e in range(ENVS)] for s in range(SEEDS)
        ]
        torch.testing.assert_close(share, torch.tensor(expected), rtol=1e-4, atol=1e-4)
        found.append(share)
    assert len(torch.cat(found).unique()) > 1


def always(m, s, e, u):
    return residual(replace(m, step=500), s, e, u)


def spread(m, s, e, u):
    return cheq(replace(m, step=200), s, e, u)


TARGETS = {
    "ibrl": ({}, ibrl),
    "ibrl softmax": ({"inverse_temperature": 10.0}, ibrl_softmax),
    "cheq": ({"warmup_steps": 200, "observe_share": False}, spread),
    "residual": ({"bound": 0.3, "horizon": 500}, always),
}


@pytest.mark.parametrize("commitment", [1, 3])
@pytest.mark.parametrize("name", TARGETS)
def test_a_target_goes_by_the_same_formula_in_the_successors(name, commitment):
    """Whatever the step of training is, and though exploration is not known of there."""
    options, oracle = TARGETS[name]
    rule = rule_of(name.split()[0], commitment=commitment, **options)
    generator, streams, found = np.random.default_rng(6), Streams([3, 8]), []
    for _ in range(ROUNDS):
        m, u = a_moment(generator), streams.uniform("any", (ENVS,))
        share = rule.target(Successors(m.observation, m.guide, m.explorer, m.critics, u))
        expected = [[oracle(m, s, e, float(u[s, e])) for e in range(ENVS)] for s in range(SEEDS)]
        torch.testing.assert_close(share, torch.tensor(expected), rtol=1e-4, atol=1e-4)
        found.append(share)
    assert len(torch.cat(found).unique()) > 1


def test_which_rules_have_a_target():
    for kind in KINDS:
        rule = rule_of(kind)
        assert (NEXT_GUIDE in rule.needs) is (kind in ("ibrl", "cheq", "residual"))
        assert isinstance(rule, HasTarget) is (NEXT_GUIDE in rule.needs)
    without = rule_of("ibrl", bootstrap=False)
    assert without.needs == rule_of("ibrl").needs - {NEXT_GUIDE}


OWN = """
from jsrl.jumpstart.arbiters import Rule
class Own(Rule):
    def decide(self, moment, state, streams):
        return moment.times * 0.0, state
"""


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("    needs = frozenset({'next_guide'})", "has 'next_guide' in its needs, and no method t"),
        (
            "    def target(self, moment): ...",
            "has a method target, and no 'next_guide' in its n",
        ),
    ],
)
def test_a_target_of_ones_own_is_named_in_the_needs(tmp_path, more, says):
    (tmp_path / "own.py").write_text(OWN + more)
    with pytest.raises(UserError, match=says):
        rule_of("custom", target=f"{tmp_path / 'own.py'}:Own")


def test_softmax_of_ibrl_is_greedy_where_nobody_explores():
    generator = np.random.default_rng(5)
    moment = a_moment(generator, explores=False)
    drawn, greedy = rule_of("ibrl", inverse_temperature=0.0), rule_of("ibrl")
    shares = [rule.decide(moment, ArbiterState(), Streams([3, 8]))[0] for rule in (drawn, greedy)]
    assert torch.equal(*shares)


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


KINDS = [name for name in arbiters.names() if name != "custom"]


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


@pytest.mark.parametrize("commitment", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_is_bitwise_the_same_alone_and_in_company(kind, commitment):
    quick = {"trust": "training", "episodes": 2, "window": 2, "level": 0.5}
    options = {"roll_back": {"window": 2}, "cheq": {"warmup_steps": 100}, "monitor": quick}
    options = options.get(kind, {})
    rule = rule_of(kind, commitment=commitment, **options)
    together = play(rule, [4, 9, 2], np.random.default_rng)
    for index, seed in enumerate([4, 9, 2]):
        alone = play(rule, [seed], np.random.default_rng)
        assert torch.equal(together[:, index : index + 1], alone)


@pytest.mark.parametrize("kind", ["coin", "calf", "roll_in"])
def test_commitment_keeps_a_decision_for_k_steps_and_asks_anew_in_a_new_episode(kind):
    free, bound = rule_of(kind), rule_of(kind, commitment=4)
    assert isinstance(bound, Committed) and not isinstance(bound, DecidesByClock)
    shares = play(bound, [4], np.random.default_rng)
    times, generator = torch.zeros(1, ENVS, dtype=torch.int64), np.random.default_rng(4)
    previous = None
    for index, share in enumerate(shares):
        mask = torch.tensor(generator.uniform(size=(1, 3, ENVS))[:, 0] < (0.2 if index else 1))
        times = torch.where(mask, 0, times + 1)
        a_moment(generator, seeds=1, times=times)
        if previous is not None:
            kept = times % 4 != 0
            assert torch.equal(share[kept], previous[kept])
        previous = share
    assert 0 < shares.mean() < 1
    if kind == "coin":
        due = play(free, [4], np.random.default_rng)[0]
        assert torch.equal(shares[0], due)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rule_is_a_pure_function_of_its_state(kind):
    rule, generator = rule_of(kind, commitment=2), np.random.default_rng(7)
    state = rule.fresh(SEEDS, ENVS)
    everywhere = torch.ones(SEEDS, ENVS, dtype=torch.bool)
    state = rule.begin(beginning(everywhere), state, Streams([3, 8]))
    kept, moment = state.state_dict(), a_moment(generator, 6_000)
    first, after = rule.decide(moment, state, Streams([3, 8]))
    again = rule.decide(moment, ArbiterState.restored(kept), Streams([3, 8]))
    assert torch.equal(first, again[0])
    for one, other in ((kept, state.state_dict()), (after.state_dict(), again[1].state_dict())):
        for part in one:
            assert one[part].keys() == other[part].keys()
            for name, tensor in one[part].items():
                assert torch.equal(tensor.nan_to_num(7), other[part][name].nan_to_num(7))
    assert isinstance(rule, Arbiter)


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        ("coin", "initial_probability", 1.5),
        ("coin", "schedule_steps", -1),
        ("roll_in", "going_on", -0.1),
        ("roll_back", "metric", "length"),
        ("roll_back", "window", 0),
        ("warm_up", "steps", -1),
        ("pex", "inverse_temperature", -1.0),
        ("ibrl", "inverse_temperature", -1.0),
        ("cheq", "highest_spread", 0.01),
        ("cheq", "highest_share", 0.1),
        ("calf", "relaxation", 2.0),
        ("residual", "bound", 0.0),
        ("handover", "commitment", 0),
        ("monitor", "level", 1.0),
        ("monitor", "episodes", 37),
        ("monitor", "window", 1),
        ("monitor", "trust", "me"),
        ("human", "take_over", "return"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_key(kind, option, value):
    with pytest.raises(UserError, match=rf"arbiter\.{option}={value!r}"):
        arbiters[kind].options(kind=kind, **{option: value}).check()
