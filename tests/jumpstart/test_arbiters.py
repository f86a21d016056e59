"""Rules of who acts, each against its formula written once more, row by row."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from jumpstart.moments import (
    ENVS,
    ROUNDS,
    SEEDS,
    a_moment,
    beginning,
    play,
    rule_of,
)

from jsrl.core.arbitration import (
    NEXT_GUIDE,
    Arbiter,
    ArbiterState,
    DecidesByClock,
    HasTarget,
    Successors,
)
from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.jumpstart.arbiters import Committed, arbiters


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


KINDS = [name for name in arbiters.names() if name != "custom"]


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
