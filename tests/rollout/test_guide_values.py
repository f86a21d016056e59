"""What a guide of this package says of its own actions, in its own units and by its own view."""

import numpy as np
import pytest
import torch
from specs import box, vector
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from jsrl.core.observations import Observation
from jsrl.core.specs import DiscreteActions, EnvSpec
from jsrl.core.streams import Streams
from jsrl.guides.view import GuideView
from jsrl.learners import learners
from jsrl.learners.options import LearnerInputs
from jsrl.networks.categorical import CategoricalPolicy
from jsrl.networks.tanh_gaussian import TanhGaussianPolicy
from jsrl.rollout.critics import LearnerCritics
from jsrl.rollout.guide_values import NetworkGuideValues

SPEC = EnvSpec("Unit-v0", vector(4), box([-1.0] * 2, [1.0] * 2), 10)


def observations(rows=500):
    return Observation(torch.randn(2, rows, 4, generator=torch.Generator().manual_seed(1)))


def test_density_and_v_are_of_what_the_guide_sees_and_calls_its_actions():
    options = learners["iql"].options(kind="iql", hidden=[8], batch_size=4)
    inputs = LearnerInputs(
        Streams([0, 1]), vector(3), box([-1.0] * 2, [1.0] * 2), torch.device("cpu")
    )
    learner = learners.build(options, inputs)
    with torch.no_grad():
        learner.policy().log_std.add_(torch.tensor([-1.0, 0.5]))
    view = GuideView(observation=(3, 0, 1), mean=0.5, std=2.0, action_low=-4.0, action_high=2.0)
    values = NetworkGuideValues(learner.policy(), LearnerCritics(learner), view.bind(SPEC))
    seen, action = observations(), torch.rand(2, 500, 2, generator=torch.Generator().manual_seed(2))
    log_prob, entropy = values.log_prob_and_entropy(seen, action)
    own = (seen.vector[..., [3, 0, 1]] - 0.5) / 2
    mean = learner.policy().act(Observation(own), None)
    normal = Independent(Normal(mean, learner.policy().log_std.exp()), 1)
    torch.testing.assert_close(log_prob, normal.log_prob(3 * action - 1))
    torch.testing.assert_close(entropy, normal.entropy())
    torch.testing.assert_close(values.v(seen), learner.networks.v(Observation(own)).detach())
    # In units three times as wide the density is 1/9, and the entropy makes up for it.
    wide = Independent(Normal((mean + 1) / 3, learner.policy().log_std.exp() / 3), 1)
    torch.testing.assert_close(log_prob + entropy, wide.log_prob(action) + wide.entropy())


def test_choices_are_numbered_as_the_guide_numbers_them():
    policy = CategoricalPolicy(2, 4, 3, [8])
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
            )
    spec = EnvSpec("Choices-v0", vector(4), DiscreteActions(3, start=5), 10)
    values = NetworkGuideValues(policy, LearnerCritics(None), GuideView().bind(spec))
    seen, choice = observations(), torch.arange(1000).view(2, 500) % 3
    log_prob, entropy = values.log_prob_and_entropy(seen, choice)
    p = policy(seen.vector).exp().detach().numpy()
    chosen = np.take_along_axis(p, choice.numpy()[..., None], -1)[..., 0]
    np.testing.assert_allclose(log_prob.numpy(), np.log(chosen), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(entropy.numpy(), -(p * np.log(p)).sum(-1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("log_std", [-3.0, -0.5, 1.0])
def test_the_entropy_of_a_squashed_gaussian_is_its_integral(log_std):
    policy = TanhGaussianPolicy(2, 4, 1, [8])
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4))
            )
        mean, _ = policy(observations(20).vector)
        policy.log_std_range = (log_std, log_std)
        found = policy.log_prob_and_entropy(observations(20).vector, torch.zeros(2, 20, 1))
    # -∫ p(u)·log p(tanh u) du over u, before the tanh, by many small steps.
    places = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    before = mean.double() + float(np.exp(log_std)) * places
    normal = Normal(torch.zeros(()).double(), 1.0)
    squashed = TransformedDistribution(
        Normal(mean.double(), float(np.exp(log_std))), TanhTransform()
    )
    slope = 2 * (np.log(2) - before - torch.nn.functional.softplus(-2 * before))
    density = normal.log_prob(places) - log_std - slope
    expected = -torch.trapezoid(normal.log_prob(places).exp() * density, places)
    torch.testing.assert_close(found[1].double(), expected, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(
        found[0].double(),
        squashed.log_prob(torch.zeros(2, 20, 1).double())[..., 0],
        rtol=1e-3,
        atol=1e-3,
    )
