"""A share that the explorer observes: CHEQ's, and that of rules of one's own."""

import numpy as np
import pytest
import torch
from fakes import COUNTING, FakeGuide, FakePolicy

from jsrl.core.arbitration import ArbiterInForce, Critics, Decision, SaysShareBefore, Successors
from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.observed_share import share_in, spec_with_share, with_share
from jsrl.core.streams import Streams
from jsrl.envs.make import Environments, EnvSettings, describe_env
from jsrl.jumpstart.arbiters import arbiters, build_arbiter
from jsrl.rollout.stepper import Stepper

CRITICS, LOWEST = 4, 0.25
WEIGHTS = torch.linspace(-0.04, 0.05, CRITICS)
CPU = torch.device("cpu")


class Linear(Critics):
    """Critic k says w_k·(the sum of what is observed, the share too, and of the action)."""

    def q(self, observation, action):
        total = observation.vector.sum(-1) + action.sum(-1)
        return WEIGHTS[None, :, None] * total[:, None]


def cheq(**options):
    given = {"warmup_steps": 0, "lowest_share": LOWEST, **options}
    return build_arbiter(arbiters["cheq"].options(kind="cheq", **given))


def by_spread(total):
    """λ of one row in plain numbers."""
    spread = float(np.std([w * total for w in WEIGHTS.tolist()]))
    return 1.0 - (1.0 - LOWEST) * min(max((spread - 0.03) / 0.12, 0), 1)


def a_stepper(rule, lengths=(3, 7), envs=4):
    settings = EnvSettings(COUNTING, {"lengths": lengths})
    spec = describe_env(settings)
    stepper = Stepper(Environments(settings, envs), spec, 2, CPU, observes_share=True)
    stepper.follow(ArbiterInForce(rule, Linear()), learns=True)
    stepper.episodes[:] = range(envs)
    return stepper


class Seeing(FakePolicy):
    """Remembers what it has seen and answered."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def act(self, obs, streams):
        self.seen.append(obs)
        return (0.1 * torch.sin(obs.vector[..., :2]) + 0.05 * share_in(obs)[..., None]).float()


@pytest.mark.parametrize("commitment", [1, 3])
def test_what_the_explorer_sees_follows_from_the_step_before(commitment):
    """Row by row in plain numbers: the share, when it changes, and what is done by it."""
    rule, explorer, guide = cheq(commitment=commitment), Seeing(), FakeGuide()
    stepper = a_stepper(rule)
    streams, known = Streams([3, 8]), [None] * 4
    latest, different = [LOWEST] * 4, set()
    for index in range(20):
        if stepper.some_ended:
            ended = stepper.ended.copy()
            stepper.begin(ended, list(range(index, index + 4)), guide, streams)
            for row in np.flatnonzero(ended):
                latest[row] = known[row] = LOWEST
        times = stepper.clock.copy()
        environment = stepper.observation.vector.clone()
        moment, step = stepper.step(explorer, guide, streams, explores=True)
        seen = explorer.seen[-1].vector.flatten(0, 1)
        for row in range(4):
            if times[row] % commitment == 0:
                known[row] = latest[row]
            share = known[row]
            assert torch.equal(seen[row, :3], environment[row])
            assert float(seen[row, 3]) == pytest.approx(share, abs=1e-5)
            own = 0.1 * np.sin(seen[row, :2].numpy()) + 0.05 * share
            mixed = share * own + (1 - share) * 0.5
            assert moment.actions[row] == pytest.approx(mixed, abs=1e-5)
            latest[row] = by_spread(float(seen[row].sum()) + float(own.sum()))
            due = (times[row] + 1) % commitment == 0
            after = latest[row] if due else share
            assert float(step.observation.vector[row, 3]) == pytest.approx(after, abs=1e-4)
            different.add(round(share, 3))
        assert torch.equal(moment.observation.vector, seen)
        assert torch.equal(step.observation.vector[:, :3], stepper.observation.vector)
        # The guide sees what the environment gives.
        assert all(call[0].shape[-1] == 3 for call in guide.calls)
    assert len(different) > 3


def test_whoever_acts_alone_has_a_share_of_one_or_none():
    explorer, guide, streams = Seeing(), FakeGuide(), Streams([0, 1])
    stepper = a_stepper(cheq(warmup_steps=6))
    stepper.begin(np.ones(4, bool), [1, 2, 3, 4], guide, streams)
    for _ in range(3):
        moment, step = stepper.step(explorer, guide, streams, explores=True)
        assert (share_in(moment.observation) == 0).all() and moment.by_guide.all()
    # The seventh step of a seed comes after the fourth of two environments.
    assert (share_in(step.observation) > 0).all()
    stepper.follow(None, learns=False)
    stepper.begin(np.ones(4, bool), [1, 2, 3, 4], None, streams)
    moment, step = stepper.step(explorer, None, streams, explores=False)
    assert (share_in(moment.observation) == 1).all() and (share_in(step.observation) == 1).all()
    stepper.guide_steps[:] = [0, 1, 2, 2]
    stepper.begin(np.ones(4, bool), [1, 2, 3, 4], guide, streams)
    moment, step = stepper.step(explorer, guide, streams, explores=False)
    assert share_in(moment.observation).tolist() == [1, 0, 0, 0]
    assert share_in(step.observation).tolist() == [1, 1, 0, 0]


def test_the_targets_action_is_mixed_by_the_share_of_the_successor():
    share = torch.rand(2, 5)
    observation = with_share(Observation(torch.randn(2, 5, 3)), share)
    action = torch.zeros(2, 5, 2)
    moment = Successors(observation, action, action, Linear(), torch.zeros(2, 5))
    assert torch.equal(cheq().target(moment), share)
    assert torch.equal(cheq(commitment=4).target(moment), share)


def test_the_column_is_behind_those_of_the_environment():
    spec = describe_env(EnvSettings(COUNTING, {"lengths": (3,)}))
    widened = spec_with_share(spec)
    assert widened.layout == (("observation", 0, 3), ("explorer_share", 3, 4))
    assert (widened.actions, widened.id) == (spec.actions, spec.id)


OWN = """
import torch
from jsrl.jumpstart.arbiters import Rule
class Own(Rule):
    needs = frozenset({needs})
    def decide(self, moment, state, streams):
        return torch.full(moment.times.shape, 0.5), state
"""
SAYS = """
    def share_to_come(self, times, step, state):
        return torch.full(times.shape, {share})
"""


def of_ones_own(tmp_path, needs, more=""):
    (tmp_path / "own.py").write_text(OWN.replace("{needs}", repr(needs)) + more)
    target = f"{tmp_path / 'own.py'}:Own"
    return build_arbiter(arbiters["custom"].options(kind="custom", target=target))


@pytest.mark.parametrize(
    ("needs", "more", "says"),
    [
        ({"observed_share"}, "", "no method share_to_come"),
        (set(), SAYS.format(share=0.5), "no 'observed_share' in its needs"),
        ({"observed_share", "guide_v"}, SAYS.format(share=0.5), "does not observe the share"),
    ],
)
def test_a_rule_of_ones_own_that_lacks_a_part_is_refused(tmp_path, needs, more, says):
    with pytest.raises(UserError, match=says) as error:
        of_ones_own(tmp_path, needs, more)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0.5, 0.75])
def test_a_rule_decides_what_it_said_before(tmp_path, share):
    rule = of_ones_own(tmp_path, {"observed_share"}, SAYS.format(share=share))
    assert isinstance(rule, SaysShareBefore)
    stepper, guide, streams = a_stepper(rule), FakeGuide(), Streams([0, 1])
    stepper.begin(np.ones(4, bool), [1, 2, 3, 4], guide, streams)
    if share == 0.5:
        moment, _ = stepper.step(Seeing(), guide, streams, explores=True)
        assert share_in(moment.observation).tolist() == [0.5] * 4
        return
    with pytest.raises(UserError, match="decided another share than its share_to_come"):
        stepper.step(Seeing(), guide, streams, explores=True)


def test_a_failed_seed_observes_its_explorer_alone():
    """Its critics say NaN, and so does the rule: then the explorer acts, everywhere."""
    stepper, streams = a_stepper(cheq()), Streams([0, 1])
    stepper.arbitration.critics = Failed()
    stepper.begin(np.ones(4, bool), [1, 2, 3, 4], FakeGuide(), streams)
    stepper.step(Seeing(), FakeGuide(), streams, explores=True)
    moment, _ = stepper.step(Seeing(), FakeGuide(), streams, explores=True)
    assert share_in(moment.observation).tolist()[:2] == [1, 1]


class Failed(Linear):
    def q(self, observation, action):
        values = super().q(observation, action)
        values[0] = float("nan")
        return values


def test_decisions_are_asked_of_what_the_explorer_sees():
    asked = []

    class Asking(Linear):
        def q(self, observation, action):
            asked.append(observation.vector.shape[-1])
            return super().q(observation, action)

    rule = cheq()
    state = rule.fresh(1, 2)
    seen = with_share(Observation(torch.zeros(1, 2, 3)), torch.full((1, 2), LOWEST))
    zeros = torch.zeros(1, 2, dtype=torch.int64)
    moment = Decision(seen, zeros, zeros, zeros == 0, 0, True, None, torch.zeros(1, 2, 2), Asking())
    share, _ = rule.decide(moment, state, Streams([0]))
    assert share.tolist() == [[LOWEST, LOWEST]] and asked == [4]
