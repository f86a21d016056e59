"""Categorical, tanh-Gaussian and deterministic policies: densities, samples, seeds in company."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Categorical, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.networks.categorical import CategoricalPolicy
from jsrl.networks.deterministic import DeterministicPolicy
from jsrl.networks.saved_policies import build_policy, unsavable_because
from jsrl.networks.tanh_gaussian import TanhGaussianPolicy

CLASSES = [CategoricalPolicy, TanhGaussianPolicy, DeterministicPolicy]


def drawn(policy, scale=0.5):
    """Every parameter drawn, so that each of them counts."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return policy


def observations(seeds=2, batch=5, size=3):
    return torch.randn(seeds, batch, size, generator=torch.Generator().manual_seed(5))


def constant(policy, outputs):
    """A policy that says the same in every state."""
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
        policy.mlp.output.bias.copy_(torch.as_tensor(outputs).expand(policy.mlp.output.bias.shape))
    return policy


def test_categorical_probabilities_are_those_of_torch():
    policy, obs = drawn(CategoricalPolicy(2, 3, 4, (8,))), observations()
    theirs = Categorical(logits=policy.mlp(obs))
    actions = torch.tensor([[0, 1, 2, 3, 0], [3, 3, 2, 1, 0]])
    torch.testing.assert_close(policy.log_prob(obs, actions), theirs.log_prob(actions))
    torch.testing.assert_close(policy.entropy(obs), theirs.entropy())
    torch.testing.assert_close(policy(obs).exp().sum(-1), torch.ones(2, 5))


def test_the_gradient_of_a_categorical_log_probability_is_one_hot_minus_the_probabilities():
    policy = constant(CategoricalPolicy(1, 3, 3, ()), [0.3, -0.2, 1.1])
    policy.log_prob(torch.zeros(1, 1, 3), torch.tensor([[1]])).sum().backward()
    probabilities = torch.softmax(torch.tensor([0.3, -0.2, 1.1]), 0)
    expected = torch.tensor([0.0, 1.0, 0.0]) - probabilities
    torch.testing.assert_close(policy.mlp.output.bias.grad[0, 0], expected)


def test_the_entropy_is_between_0_and_that_of_equal_probabilities():
    obs = torch.zeros(1, 1, 3)
    equal = constant(CategoricalPolicy(1, 3, 5, ()), [2.0] * 5)
    assert equal.entropy(obs).item() == pytest.approx(math.log(5))
    certain = constant(CategoricalPolicy(1, 3, 3, ()), [500.0, 0.0, -500.0])
    assert certain.entropy(obs).item() == 0
    assert torch.isfinite(certain.log_prob(obs, torch.tensor([[2]]))).all()


def test_the_mode_is_the_most_probable_action_and_the_first_of_several():
    policy, obs = drawn(CategoricalPolicy(2, 3, 4, (8,))), observations()
    actions = policy.act(Observation(obs), None)
    assert actions.dtype == torch.int64
    assert torch.equal(actions, policy.mlp(obs).argmax(-1))
    assert len(actions.unique()) > 1
    tied = constant(CategoricalPolicy(1, 3, 4, ()), [0.0, 2.0, 2.0, -1.0])
    assert tied.act(Observation(torch.zeros(1, 1, 3)), None).item() == 1


def test_sampled_actions_have_the_probabilities():
    logits = torch.tensor([0.5, -1.0, 1.5, 0.0, -3.0])
    policy, count = constant(CategoricalPolicy(2, 3, 5, ()), logits), 40_000
    actions = policy.act(Observation(torch.zeros(2, count, 3)), Streams([0, 1]))
    assert actions.dtype == torch.int64
    assert not torch.equal(actions[0], actions[1])
    expected = count * torch.softmax(logits.double(), 0).numpy()
    for seed in range(2):
        counts = np.bincount(actions[seed], minlength=5)
        assert stats.chisquare(counts, expected).pvalue > 1e-3
        # The test would notice actions that are a little off.
        shifted = count * torch.softmax(logits.double() + torch.tensor([0.05, 0, 0, 0, 0]), 0)
        assert stats.chisquare(counts, shifted.numpy()).pvalue < 1e-3


@pytest.mark.parametrize("draw", [0.0, 0.5, 1 - 2**-24])
def test_an_action_without_probability_is_never_drawn(draw):
    class Fixed:
        def uniform(self, name, shape, where=None):
            return torch.full((1, *shape), draw)

    policy = constant(CategoricalPolicy(1, 3, 5, ()), [-1e4, 0.3, -1e4, 0.1, -1e4])
    assert policy.act(Observation(torch.zeros(1, 1, 3)), Fixed()).item() in (1, 3)


def test_the_tanh_gaussians_density_is_that_of_torch():
    policy, obs = drawn(TanhGaussianPolicy(2, 3, 2, (8,)), 0.3).double(), observations().double()
    mean, log_std = policy(obs)
    assert mean.shape == log_std.shape == (2, 5, 2)
    assert log_std.std() > 0.1
    noise = torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(6)).double()
    actions, log_prob = policy.sample_with_log_prob(obs, noise)
    torch.testing.assert_close(actions, torch.tanh(mean + log_std.exp() * noise))
    theirs = TransformedDistribution(Normal(mean, log_std.exp()), [TanhTransform(cache_size=1)])
    expected = theirs.log_prob(actions.detach()).sum(-1)
    torch.testing.assert_close(log_prob, expected)
    torch.testing.assert_close(policy.log_prob(obs, actions), expected)
    single = policy.float().sample_with_log_prob(obs.float(), noise.float())[1]
    torch.testing.assert_close(single.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (0.7, -1.0), (-1.5, 0.5)])
def test_the_tanh_gaussians_density_integrates_to_1(mean, log_std):
    policy = constant(TanhGaussianPolicy(1, 3, 1, ()), [mean, log_std]).double()
    # Much of the mass may be near the ends: the intervals become narrower towards them.
    ends = 1 - np.logspace(0, -14, 57)
    edges = np.unique([-1.0, *-ends, *ends, math.tanh(mean), 1.0])
    nodes, weights = np.polynomial.legendre.leggauss(20)
    half = np.diff(edges)[:, None] / 2
    actions = (edges[:-1, None] + half * (1 + nodes)).ravel()
    with torch.no_grad():
        obs = torch.zeros(1, len(actions), 3, dtype=torch.float64)
        density = policy.log_prob(obs, torch.from_numpy(actions)[None, :, None])[0].exp().numpy()
    masses = density * (half * weights).ravel()
    assert masses.sum() == pytest.approx(1, abs=1e-6)
    # The tanh keeps the order of numbers, and with it the median.
    assert masses[actions < math.tanh(mean)].sum() == pytest.approx(0.5, abs=1e-6)


def test_gradients_of_the_density_are_those_of_torch():
    policy, obs = drawn(TanhGaussianPolicy(2, 3, 2, (8,))).double(), observations().double()
    noise = torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(6)).double()
    _, log_prob = policy.sample_with_log_prob(obs, noise)
    own = torch.autograd.grad(log_prob.sum(), list(policy.parameters()))
    mean, log_std = policy(obs)
    theirs = TransformedDistribution(Normal(mean, log_std.exp()), [TanhTransform(cache_size=1)])
    before = mean + log_std.exp() * noise
    sampled = theirs.transforms[0](before)
    expected = torch.autograd.grad(theirs.log_prob(sampled).sum(), list(policy.parameters()))
    for found, wanted in zip(own, expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_far_from_0_the_density_stays_finite_and_right():
    # tanh(20) is 1 in float32, and log(1 - tanh²) of the rounded action would be infinite.
    policy = constant(TanhGaussianPolicy(1, 3, 1, ()), [20.0, -2.0])
    obs, noise = torch.zeros(1, 1, 3), torch.zeros(1, 1, 1)
    actions, log_prob = policy.sample_with_log_prob(obs, noise)
    assert actions.item() == 1
    exact = -(-2 + 0.5 * math.log(2 * math.pi)) - 2 * (math.log(2) - 20)
    assert log_prob.item() == pytest.approx(exact, rel=1e-6)
    assert torch.isfinite(policy.log_prob(obs, torch.ones(1, 1, 1)))
    log_prob.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in policy.parameters())


def test_the_log_standard_deviation_is_kept_in_its_range():
    policy = constant(TanhGaussianPolicy(1, 3, 2, (), log_std_range=(-1.0, 0.5)), [0, 0, -9, 9.0])
    assert policy(torch.zeros(1, 1, 3))[1].flatten().tolist() == [-1.0, 0.5]


def test_tanh_gaussian_samples_have_the_distribution_and_the_mode_is_the_tanh_of_the_mean():
    policy = constant(TanhGaussianPolicy(1, 3, 1, ()), [0.4, -0.5])
    actions = policy.act(Observation(torch.zeros(1, 20_000, 3)), Streams([3])).flatten().numpy()
    normal = stats.norm(0.4, math.exp(-0.5))
    assert stats.kstest(np.arctanh(actions), normal.cdf).pvalue > 1e-3
    mode = policy.act(Observation(torch.zeros(1, 1, 3)), None).item()
    assert mode == pytest.approx(math.tanh(0.4))


def test_the_deterministic_policy_acts_the_same_with_streams_and_draws_nothing():
    policy, obs, streams = (
        drawn(DeterministicPolicy(2, 3, 2, (8,))),
        observations(),
        Streams([0, 1]),
    )
    expected = torch.tanh(policy.mlp(obs))
    assert torch.equal(policy.act(Observation(obs), None), expected)
    assert torch.equal(policy.act(Observation(obs), streams), expected)
    assert streams.state_dict() == [{}, {}]


@pytest.mark.parametrize("cls", [CategoricalPolicy, TanhGaussianPolicy])
def test_a_seed_that_is_not_asked_draws_nothing(cls):
    policy, obs = drawn(cls(2, 3, 4, (8,))), Observation(observations())
    streams = Streams([0, 1])
    both = policy.sample(obs, Streams([0, 1]), "noise")
    policy.sample(obs, streams, "noise", where=[False, True])
    later = policy.sample(obs, streams, "noise")
    assert torch.equal(later[0], both[0])
    assert not torch.equal(later[1], both[1])


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("actions", [1, 2, 5, 17])
@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_a_seed_is_bitwise_the_same_alone_and_in_company(cls, actions, batch):
    together = drawn(cls(3, 5, actions, (13, 16)))
    alone = together.select(2).requires_grad_(True)
    obs = observations(3, batch, 5)
    observed, own_observed = Observation(obs), Observation(obs[2:].clone())
    assert torch.equal(together.act(observed, None)[2:], alone.act(own_observed, None))
    company, own = Streams([0, 1, 2]), Streams([2])
    for _ in range(2):
        assert torch.equal(together.act(observed, company)[2:], alone.act(own_observed, own))
    losses = []
    for policy, seen in ((together, obs), (alone, obs[2:].clone())):
        if cls is DeterministicPolicy:
            values = policy(seen).square()
        elif cls is CategoricalPolicy:
            chosen = torch.arange(batch).remainder(actions).expand(len(seen), -1)
            values = policy.log_prob(seen, chosen) + policy.entropy(seen)
        else:
            noise = Streams([0, 1, 2] if policy is together else [2]).normal("n", (batch, actions))
            sampled, values = policy.sample_with_log_prob(seen, noise)
            values = values + policy.log_prob(seen, 0.9 * sampled.detach())
        values.sum().backward()
        losses.append(values)
    assert torch.equal(losses[0][2:], losses[1])
    for (name, one), other in zip(together.named_parameters(), alone.parameters(), strict=True):
        assert torch.equal(one.grad[2:], other.grad), name


@pytest.mark.parametrize("cls", CLASSES)
def test_a_policy_is_rebuilt_from_plain_values_and_weights(cls):
    policy = drawn(cls(2, 3, 4, (8,), "tanh", True, normalise_observations=True))
    policy.set_normaliser(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 0.5]))
    assert unsavable_because(policy) is None
    rebuilt = build_policy(policy.describe(), policy.state_dict())
    obs = observations()
    observed = Observation(obs)
    assert torch.equal(
        rebuilt.act(observed, Streams([0, 1])), policy.act(observed, Streams([0, 1]))
    )
    plain = drawn(cls(2, 3, 4, (8,), "tanh", True))
    seen = (obs - torch.tensor([1.0, 2.0, 3.0])) / torch.tensor([2.0, 4.0, 0.5])
    assert torch.equal(policy.act(Observation(obs), None), plain.act(Observation(seen), None))
    plain.set_normaliser(torch.ones(3), torch.ones(3))
    assert torch.equal(plain.normalise(obs), obs)


@pytest.mark.parametrize("cls", CLASSES)
def test_an_exported_mode_is_that_of_its_seed(cls):
    policy, obs = drawn(cls(2, 3, 4, (8,))), observations()
    assert torch.equal(
        policy.mode_module(1)(obs[1]), policy.select(1).act(Observation(obs[1:]), None)[0]
    )


def test_whoever_reads_a_checkpoint_knows_the_classes():
    program = (
        "from jsrl.networks.saved_policies import build_policy\n"
        "arguments = {'num_seeds': 1, 'observation_size': 2, 'action_size': 2}\n"
        "for name in NAMES:\n"
        "    try:\n"
        "        build_policy({'class': name, 'arguments': arguments}, {})\n"
        "    except Exception as error:\n"
        "        print(name, 'registered' if 'loading state_dict' in str(error) else error)\n"
    )
    names = [cls.__name__ for cls in CLASSES]
    printed = subprocess.run(
        [sys.executable, "-c", program.replace("NAMES", repr(names))],
        capture_output=True,
        check=True,
    )
    assert printed.stdout.decode().splitlines() == [f"{name} registered" for name in names]
