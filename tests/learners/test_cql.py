"""CQL and Cal-QL: a second implementation, the integral, the factor by hand, and seeds apart."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from learners.reference_sac import ACT, PlainSAC, assert_same_networks
from minibatches import random_batch
from specs import box, vector

from jsrl.core.errors import UserError
from jsrl.core.protocols import Phase
from jsrl.core.returns import ReturnsToGo
from jsrl.core.streams import Streams
from jsrl.learners.cal_ql import CalQL, CalQLOptions
from jsrl.learners.cql import CQL, CQLOptions
from jsrl.learners.losses import soft_maximum
from jsrl.learners.options import LearnerInputs
from jsrl.networks.hidden_layers import HiddenLayers, NetworkLayers

B, N = 16, 3
OBSERVATION, ACTIONS = vector(3), box((-1.0, -1.0), (1.0, 1.0))
BASE = {
    "hidden": [12, 10],
    "batch_size": B,
    "learning_rate": 3e-3,
    "target_rate": 0.05,
    "initial_temperature": 0.4,
    "sampled_actions": N,
    "conservative_weight": 0.7,
}
LAGRANGE = {"target_gap": 0.8, "max_target_backup": True, "softmax_temperature": 2.0}
KINDS = {
    "plain": CQLOptions(**BASE),
    "lagrange": CQLOptions(**BASE, **LAGRANGE, critics=3, target_critics=2),
    "unweighed": CQLOptions(
        **BASE, importance_sampling=False, smallest_gap=-1.0, largest_gap=1.5, backup_entropy=True
    ),
    "cloning": CQLOptions(**BASE, cloning_updates=4),
    "best with entropy": CQLOptions(**BASE, max_target_backup=True, backup_entropy=True),
    "calibrated": CalQLOptions(**BASE, target_gap=0.8),
}


def make(seeds, options):
    kind = CalQL if isinstance(options, CalQLOptions) else CQL
    streams = Streams(seeds).child("cql")
    return kind(options, LearnerInputs(streams, OBSERVATION, ACTIONS, torch.device("cpu")))


def batch(streams, calibrated):
    """Random transitions; with returns-to-go of which some bind and a fifth are not known."""
    found = random_batch(streams, B, OBSERVATION, ACTIONS)
    if not calibrated:
        return found
    returns = streams.normal("returns", (B,))
    goes_on = streams.uniform("goes_on", (B,)) < 0.2
    return replace(found, return_to_go=returns.masked_fill(goes_on, -math.inf))


class PlainCQL(PlainSAC):
    """One seed of CQL, one state at a time where several actions are asked for."""

    def __init__(self, learner, index):
        super().__init__(learner, index)
        self.log_factor = torch.ones((), dtype=torch.float64, requires_grad=True)
        self.factor_adam = torch.optim.Adam([self.log_factor], self.options.learning_rate)
        self.updates = 0

    def update(self, transitions, draws, **which):
        self.bound = transitions.return_to_go
        super().update(transitions, draws, **which)
        self.updates += 1

    def several(self, obs, noise):
        """Actions ``[B, n, A]`` and log densities ``[B, n]`` of n draws in each state."""
        pairs = [self.act(obs, noise[:, k]) for k in range(noise.shape[1])]
        return torch.stack([a for a, _ in pairs], 1), torch.stack([p for _, p in pairs], 1)

    def critic_loss(self, rows, drawn, alpha):
        o, error = self.options, super().critic_loss(rows, drawn, alpha)
        q = self.q(rows.observation, rows.action, self.parameters)
        with torch.no_grad():
            here = self.several(rows.observation, drawn["sampled_noise"])
            there = self.several(rows.next_observation, drawn["next_sampled_noise"])
        lowest, highest = o.smallest_gap or -math.inf, o.largest_gap or math.inf
        terms = []
        for place in range(B):
            values = [q[:, place]] if not o.importance_sampling else []
            uniform = drawn["uniform_actions"][place]
            cases = [(uniform, torch.full((N,), ACT * math.log(0.5)), False)]
            cases += [(a[place], d[place], True) for a, d in (here, there)]
            for actions, densities, own in cases:
                obs = rows.observation[place].expand(N, -1)
                found = self.q(obs, actions, self.parameters)
                if own and self.bound is not None:
                    found = found.clamp(min=self.bound[self.index, place].item())
                values += list((found - densities if o.importance_sampling else found).T)
            exps = torch.stack([torch.exp(v / o.softmax_temperature) for v in values])
            gap = o.softmax_temperature * exps.sum(0).log() - q[:, place]
            terms.append(gap.clamp(lowest, highest))
        gaps = torch.stack(terms).mean(0)
        weight = o.conservative_weight
        if o.target_gap is None:
            return error + weight * gaps.sum()
        excess = gaps - o.target_gap
        factor = self.log_factor.exp()
        used = factor.item()
        (self.log_factor.grad,) = torch.autograd.grad(
            -weight * factor * excess.detach().mean(), self.log_factor
        )
        self.factor_adam.step()
        return error + weight * used * excess.sum()

    def q(self, obs, action, parameters):
        if obs.dim() == 2:
            obs = obs if action.dim() == 2 else obs[:, None].expand(-1, action.shape[1], -1)
        return super().q(obs, action, parameters)

    def mlp(self, x, parameters, prefix):
        """The critics' parameters have an axis of critics in front."""
        rows = x.flatten(0, -2)
        return super().mlp(rows, parameters, prefix).unflatten(-2, x.shape[:-1])

    def next_value(self, rows, drawn, alpha):
        if not self.options.max_target_backup:
            return super().next_value(rows, drawn, alpha)
        actions, log_prob = self.several(rows.next_observation, drawn["next_noise"])
        q = self.q(rows.next_observation, actions, self.target)
        if self.options.target_critics is not None:
            q = q[drawn["ranks"].argsort()[: self.options.target_critics]]
        best, which = q.min(0).values.max(-1)
        if self.options.backup_entropy:
            best = best - alpha * log_prob[torch.arange(B), which]
        return best

    def actor_loss(self, rows, action, log_prob, alpha):
        if self.updates >= self.options.cloning_updates:
            return super().actor_loss(rows, action, log_prob, alpha)
        mean, log_std = self.distribution(rows.observation)
        before = torch.atanh(rows.action)
        normal = torch.distributions.Normal(mean, log_std.exp()).log_prob(before)
        of_data = (normal - torch.log(1 - rows.action**2)).sum(-1)
        return (alpha * log_prob - of_data).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_six_updates_agree_with_a_second_implementation(kind):
    learner = make([4, 5], KINDS[kind])
    plain, streams = [PlainCQL(learner, i) for i in range(2)], Streams([4, 5]).child("batches")
    for _ in range(6):
        transitions = batch(streams, kind == "calibrated")
        draws = learner.draws(streams)
        metrics = learner.update(transitions, draws)
        for one in plain:
            one.update(transitions, draws)
    assert_same_networks(learner, plain)
    if KINDS[kind].target_gap is not None:
        factors = [one.log_factor.item() for one in plain]
        assert learner.log_multiplier[:, 0].tolist() == pytest.approx(factors, rel=1e-5)
    if kind == "calibrated":
        # Some of the bounds bind, or nothing was tested.
        assert (metrics["conservative/raised"] > 0.05).all()


def test_weighed_samples_estimate_the_integral_over_actions():
    """In one dimension, with a policy's tanh of a normal as one of the proposals."""
    generator = torch.Generator().manual_seed(0)
    count, mean, std = 400_000, 0.4, 0.8

    def value(action):
        return 1.5 * torch.sin(3 * action) + action

    before = mean + std * torch.randn(count, generator=generator, dtype=torch.float64)
    own = torch.tanh(before)
    density = torch.distributions.Normal(mean, std).log_prob(before) - torch.log(1 - own**2)
    uniform = 2 * torch.rand(count, generator=generator, dtype=torch.float64) - 1
    terms = torch.cat([value(own) - density, value(uniform) + math.log(2)])
    grid = torch.linspace(-1, 1, 100_001, dtype=torch.float64)
    integral = torch.trapezoid(torch.exp(value(grid)), grid)
    found = soft_maximum(terms, 1.0) - math.log(2 * count)
    assert found.item() == pytest.approx(math.log(integral.item()), abs=5e-3)


def test_the_learners_weights_make_the_soft_maximum_of_a_flat_value_that_of_the_volume():
    """Critics of all zeros: ∫ exp 0 da = 2^A, whatever the policy samples."""
    options = replace(KINDS["plain"], batch_size=2, sampled_actions=20_000)
    learner = make([0], options)
    with torch.no_grad():
        for parameter in learner.networks.critic.parameters():
            parameter.zero_()
    streams = Streams([0]).child("batches")
    transitions = random_batch(streams, 2, OBSERVATION, ACTIONS)
    gap = learner.update(transitions, learner.draws(streams))["conservative/gap"].item()
    assert gap == pytest.approx(math.log(2**ACT * 3 * 20_000), abs=0.02)


@pytest.mark.parametrize(("target_gap", "sign"), [(-100.0, 1), (100.0, -1)])
def test_the_factor_grows_where_the_gap_is_too_large(target_gap, sign):
    learner = make([0], replace(KINDS["plain"], target_gap=target_gap))
    streams = Streams([0]).child("batches")
    metrics = learner.update(batch(streams, False), learner.draws(streams))
    # The first step of Adam is the learning rate; the loss has the factor from before.
    assert learner.log_multiplier.item() == pytest.approx(1.0 + sign * 3e-3, rel=1e-5)
    assert metrics["conservative/multiplier"].item() == pytest.approx(math.e, rel=1e-6)
    excess = metrics["conservative/gap"].item() - target_gap
    expected = 0.7 * math.e * 2 * excess
    assert metrics["loss/conservative"].item() == pytest.approx(expected, rel=1e-4)


def test_without_weight_online_it_is_sac_there_and_draws_no_actions():
    learner = make([0], replace(KINDS["plain"], online_weight=0.0))
    plain, streams = PlainSAC(learner, 0), Streams([0]).child("batches")
    learner.start_phase(Phase.ONLINE, 10)
    for _ in range(3):
        transitions, draws = batch(streams, False), learner.draws(streams)
        assert set(draws) == {"noise", "next_noise"}
        learner.update(transitions, draws)
        plain.update(transitions, draws)
    assert_same_networks(learner, [plain])
    learner.start_phase(Phase.OFFLINE, 10)
    assert "uniform_actions" in learner.draws(streams)


@pytest.mark.parametrize("kind", ["lagrange", "unweighed", "calibrated"])
def test_a_seed_learns_the_same_alone_and_in_company(kind):
    found = []
    for seeds in ([7], [3, 7, 11]):
        learner, streams = make(seeds, KINDS[kind]), Streams(seeds).child("batches")
        for _ in range(8):
            learner.update(batch(streams, kind == "calibrated"), learner.draws(streams))
        row = seeds.index(7)
        tensors = (*learner.networks.parameters(), learner.log_multiplier)
        found.append([tensor[row].clone() for tensor in tensors])
    for alone, together in zip(*found, strict=True):
        assert torch.equal(alone, together)


def test_a_learner_goes_on_from_its_state_in_another_phase():
    options = replace(KINDS["lagrange"], online_weight=0.1, cloning_updates=3)
    first, other = make([3, 4], options), make([3, 4], options)
    streams = Streams([3, 4]).child("batches")
    first.start_phase(Phase.ONLINE, 10)
    for _ in range(2):
        first.update(batch(streams, False), first.draws(streams))
    other.load_state_dict(first.state_dict())
    for _ in range(3):
        transitions, draws = batch(streams, False), first.draws(streams)
        for learner in (first, other):
            learner.update(transitions, draws)
    assert torch.equal(first.log_multiplier, other.log_multiplier)
    for one, two in zip(first.networks.parameters(), other.networks.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_warm_start_takes_the_factor_along_and_a_naive_one_the_actor_alone():
    source = make([3, 4], KINDS["calibrated"])
    streams = Streams([3, 4]).child("batches")
    for _ in range(3):
        source.update(batch(streams, True), source.draws(streams))
    for only_actor in (False, True):
        learner = make([8], KINDS["calibrated"])
        learner.start_from(source.state_dict(), [1], only_actor=only_actor)
        same = [
            torch.equal(getattr(learner.networks, part).hidden_0.weight[0], wanted.weight[1])
            for part, wanted in (
                ("critic", source.networks.critic.hidden_0),
                ("target_critic", source.networks.target_critic.hidden_0),
            )
        ]
        assert same == [not only_actor] * 2
        actors = [one.networks.actor.mlp.hidden_0.weight for one in (learner, source)]
        assert torch.equal(actors[0][0], actors[1][1])
        factor = 1.0 if only_actor else source.log_multiplier[1].item()
        assert learner.log_multiplier.item() == factor


def test_cal_ql_says_how_its_stores_have_to_work_out_returns():
    options = replace(KINDS["calibrated"], reward_scale=10.0, reward_shift=-5.0)
    assert make([0], options).needs.returns_to_go == ReturnsToGo(0.99, 10.0, -5.0, True)
    zero = replace(options, after_time_limit="zero")
    assert make([0], zero).needs.returns_to_go == ReturnsToGo(0.99, 10.0, -5.0, False)
    assert make([0], KINDS["plain"]).needs.returns_to_go is None
    learner, streams = make([0], options), Streams([0])
    with pytest.raises(UserError, match="without return_to_go"):
        learner.update(batch(streams, False), learner.draws(streams))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"conservative_weight": -1.0}, "learner.conservative_weight=-1.0 must be at least 0"),
        ({"online_weight": -1.0}, "learner.online_weight=-1.0 must be at least 0"),
        ({"sampled_actions": 0}, "learner.sampled_actions=0 must be at least 1"),
        ({"softmax_temperature": 0.0}, "learner.softmax_temperature=0.0 must be above 0"),
        ({"smallest_gap": 2.0, "largest_gap": 1.0}, "learner.smallest_gap=2.0 is above"),
        ({"after_time_limit": "once"}, "learner.after_time_limit='once' is unknown"),
        ({"discount": 1.0}, "learner.after_time_limit=zero"),
        ({"target_gap": np.inf}, "learner.target_gap=inf must be a finite number"),
    ],
)
def test_what_is_out_of_range_is_told(changes, words):
    with pytest.raises(UserError, match=words):
        replace(KINDS["calibrated"], **changes).check()


@pytest.mark.parametrize("only_actor", [False, True])
def test_an_actor_that_has_cloned_is_not_cloned_again_after_a_warm_start(only_actor):
    options = replace(KINDS["cloning"], cloning_updates=2)
    guide, learner = make([0], options), make([0], options)
    streams = Streams([0]).child("batches")
    guide.start_phase(Phase.OFFLINE, 3)
    for _ in range(3):
        guide.update(batch(streams, calibrated=False), guide.draws(streams))
    learner.start_from(guide.state_dict(), [0], only_actor=only_actor)
    learner.start_phase(Phase.ONLINE, 1)
    plain = make([0], replace(options, cloning_updates=0))
    plain.start_from(guide.state_dict(), [0], only_actor=only_actor)
    plain.start_phase(Phase.ONLINE, 1)
    given = batch(streams, calibrated=False)
    draws = learner.draws(streams)
    found, expected = learner.update(given, draws), plain.update(given, draws)
    assert torch.equal(found["loss/actor"], expected["loss/actor"])


@pytest.mark.parametrize("start", ["warm", "naive"])
def test_networks_with_normalised_layers_are_not_copied_to_some_without(start):
    normalised = NetworkLayers(*(HiddenLayers("relu", layer_norm=True) for _ in range(3)))
    streams = Streams([0]).child("cql")
    inputs = LearnerInputs(streams, OBSERVATION, ACTIONS, torch.device("cpu"), normalised)
    guide, learner = CQL(KINDS["plain"], inputs), make([0], KINDS["plain"])
    with pytest.raises(UserError, match=rf"start={start}: .*norm\S* of shape .* is None; use the"):
        learner.start_from(guide.state_dict(), [0], only_actor=start == "naive")
