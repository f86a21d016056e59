"""Networks with a seed axis: the same as separate networks, and bitwise so beside each other."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.streams import Streams
from jsrl.networks.activations import ACTIVATIONS
from jsrl.networks.layers import (
    INITIALISATIONS,
    SeedLinear,
    SeedMLP,
    fan_in_uniform,
    orthogonal,
    variance_scaling,
)
from jsrl.networks.policies import GaussianPolicy
from jsrl.networks.saved_policies import build_policy

SIZES = st.sampled_from([1, 2, 3, 5, 8, 16, 17, 32, 64])


def random_parameters(module, seed=0):
    """Every parameter drawn, so that biases, gains and offsets count too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return module


def rows_of(module, alone, index):
    """Give ``alone``, a module for S = 1, the parameters of one seed of ``module``."""
    state = {name: value[index : index + 1] for name, value in module.state_dict().items()}
    alone.load_state_dict(state)
    return alone


def separate_mlp(mlp, index, member, activation, layer_norm):
    """One of the networks, made of PyTorch's own layers."""

    def values(parameter):
        value = parameter.detach()[index]
        return value if member is None else value[member]

    def linear(layer):
        weight, bias = values(layer.weight), values(layer.bias)
        own = nn.Linear(*weight.shape)
        own.weight.data.copy_(weight.mT)
        own.bias.data.copy_(bias[0])
        return own

    layers = []
    for i in range(mlp.depth):
        layers.append(linear(getattr(mlp, f"hidden_{i}")))
        if layer_norm:
            norm = getattr(mlp, f"norm_{i}")
            own = nn.LayerNorm(norm.weight.shape[-1])
            own.weight.data.copy_(values(norm.weight)[0])
            own.bias.data.copy_(values(norm.bias)[0])
            layers.append(own)
        layers.append(activation())
    return nn.Sequential(*layers, linear(mlp.output))


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("members", [(3,), (3, 2)])
def test_stacked_networks_equal_separate_ones_in_values_and_gradients(members, layer_norm):
    mlp = random_parameters(SeedMLP(members, 4, (7, 6), 2, "tanh", layer_norm))
    x = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))
    out = mlp(x)
    assert out.shape == (*members, 5, 2)
    out.square().sum().backward()
    for index in range(3):
        for member in range(2) if len(members) == 2 else [None]:
            own = separate_mlp(mlp, index, member, nn.Tanh, layer_norm)
            expected = own(x[index])
            place = (index,) if member is None else (index, member)
            torch.testing.assert_close(out[place], expected)
            expected.square().sum().backward()
            for layer, name in ((own[0], "hidden_0"), (own[-1], "output")):
                stacked = getattr(mlp, name)
                torch.testing.assert_close(stacked.weight.grad[place].mT, layer.weight.grad)
                torch.testing.assert_close(stacked.bias.grad[place][0], layer.bias.grad)
            if layer_norm:
                torch.testing.assert_close(mlp.norm_0.weight.grad[place][0], own[1].weight.grad)
                torch.testing.assert_close(mlp.norm_0.bias.grad[place][0], own[1].bias.grad)


def test_dropout_masks_multiply_the_hidden_activations():
    mlp = random_parameters(SeedMLP((1,), 3, (4,), 2))
    x = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(2))
    hidden = torch.relu(mlp.hidden_0(x))
    mask = torch.tensor([2.0, 0.0, 2.0, 0.0]).expand(1, 5, 4)
    torch.testing.assert_close(mlp(x, [mask]), mlp.output(hidden * mask))
    torch.testing.assert_close(mlp(x), mlp.output(hidden))


def test_without_hidden_layers_it_is_linear():
    mlp = random_parameters(SeedMLP((2,), 3, (), 2))
    x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(mlp(x), x @ mlp.output.weight + mlp.output.bias)


@settings(max_examples=80)
@given(
    sizes=st.tuples(SIZES, SIZES, SIZES, st.sampled_from([1, 2, 3, 8])),
    batch=st.sampled_from([1, 2, 3, 16, 64]),
    members=st.sampled_from([(), (2,)]),
    layer_norm=st.booleans(),
)
# A single unit between layers: its gradient is a matrix-vector product, unlike all others.
@example(sizes=(1, 64, 1, 8), batch=256, members=(), layer_norm=False)
def test_a_seed_computes_bitwise_the_same_alone_and_in_company(sizes, batch, members, layer_norm):
    size, *hidden, out = sizes
    together = random_parameters(SeedMLP((3, *members), size, hidden, out, "relu", layer_norm))
    alone = rows_of(together, SeedMLP((1, *members), size, hidden, out, "relu", layer_norm), 2)
    x = torch.randn(3, batch, size, generator=torch.Generator().manual_seed(3))
    values, value = together(x), alone(x[2:])
    assert torch.equal(values[2:], value)
    values.square().sum().backward()
    value.square().sum().backward()
    grads = dict(together.named_parameters())
    for name, parameter in alone.named_parameters():
        assert torch.equal(grads[name].grad[2:], parameter.grad), name


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("batch", [1, 3, 64])
@pytest.mark.parametrize("width", [1, 13, 16, 64])
def test_every_activation_is_bitwise_the_same_alone_and_in_company(activation, batch, width):
    together = random_parameters(SeedMLP((3,), 5, (width, width), 2, activation))
    alone = rows_of(together, SeedMLP((1,), 5, (width, width), 2, activation), 2)
    x = torch.randn(3, batch, 5, generator=torch.Generator().manual_seed(3))
    values, value = together(x), alone(x[2:])
    values.square().sum().backward()
    value.square().sum().backward()
    assert torch.equal(values[2:], value)
    grads = dict(together.named_parameters())
    for name, parameter in alone.named_parameters():
        assert torch.equal(grads[name].grad[2:], parameter.grad), name


@settings(max_examples=40)
@given(
    observation=SIZES,
    action=st.sampled_from([1, 2, 8]),
    width=SIZES,
    envs=st.sampled_from([1, 2, 5, 10]),
    samples=st.booleans(),
)
def test_a_seed_acts_bitwise_the_same_alone_and_in_company(
    observation, action, width, envs, samples
):
    together = GaussianPolicy(3, observation, action, (width, width))
    random_parameters(together)
    drawn = torch.randn(3, envs, observation, generator=torch.Generator().manual_seed(4))
    obs = Observation(drawn)
    company, own = (Streams([0, 1, 2]), Streams([2])) if samples else (None, None)
    alone = together.select(2)
    for _ in range(2):
        assert torch.equal(together.act(obs, company)[2:], alone.act(obs[2:], own))


def test_orthogonal_weights_have_orthogonal_rows_or_columns_times_the_gain():
    streams = Streams([0, 1])
    for shape in ((6, 4), (4, 6), (5, 5), (3, 1)):
        weights = orthogonal(math.sqrt(2))(streams, f"w{shape}", shape)
        assert weights.shape == (2, *shape)
        tall = weights if shape[0] >= shape[1] else weights.mT
        gram = tall.mT @ tall
        expected = 2 * torch.eye(gram.shape[-1]).expand_as(gram)
        torch.testing.assert_close(gram, expected, atol=1e-5, rtol=1e-5)


def test_orthogonal_weights_are_uniform_over_all_signs():
    # QR gives a diagonal of R of one sign; without correcting it Q would be biased.
    weights = orthogonal(1.0)(Streams(range(400)), "w", (3, 3))
    # Each entry has mean 0 and variance 1/3: standard error √(1/1200), five of them.
    assert weights.mean(0).abs().max() < 5 * math.sqrt(1 / 1200)


def test_pytorchs_bounds_are_those_of_its_linear_layer():
    weights = fan_in_uniform(Streams([0]), "w", (16, 4000))
    assert weights.abs().max() <= 1 / 4
    assert weights.abs().max() > 0.249
    assert abs(weights.var().item() - 1 / 48) < 5e-4
    # nn.Linear's own initialisation spreads over the same range.
    torch.manual_seed(0)
    assert abs(nn.Linear(16, 4000).weight.var().item() - 1 / 48) < 5e-4


def test_variance_scaling_is_glorots_uniform_with_a_scale():
    weights = variance_scaling(1e-2)(Streams([0]), "w", (100, 300))
    bound = math.sqrt(6 * 1e-2 / 400)
    assert weights.abs().max() <= bound
    assert weights.abs().max() > 0.99 * bound
    assert weights.var().item() == pytest.approx(1e-2 / 200, rel=0.05)


@pytest.mark.parametrize("scheme", sorted(INITIALISATIONS))
def test_an_initialisation_fills_hidden_and_output_layers_as_it_says(scheme):
    mlp = SeedMLP((2,), 8, (32, 32), 3)
    mlp.initialise(INITIALISATIONS[scheme], Streams([0, 1]), "net")
    biases = [layer.bias for layer in mlp.modules() if isinstance(layer, SeedLinear)]
    if scheme == "pytorch":
        assert all(0 < bias.abs().max() <= 1 / math.sqrt(8) for bias in biases)
        assert biases[-1].abs().max() <= 1 / math.sqrt(32)
        assert mlp.output.weight.abs().max() <= 1 / math.sqrt(32)
    else:
        assert all(bias.abs().sum() == 0 for bias in biases)
    if scheme == "orthogonal":
        # Every layer, the last one too, has gain √2.
        gram = mlp.output.weight.mT @ mlp.output.weight
        torch.testing.assert_close(gram, 2 * torch.eye(3).expand(2, 3, 3), atol=1e-5, rtol=0)
    if scheme == "variance_scaling":
        assert mlp.output.weight.abs().max() <= math.sqrt(6e-2 / 35)
        assert mlp.hidden_1.weight.abs().max() > 0.9 * math.sqrt(6 / 64)
    assert not torch.equal(mlp.hidden_1.weight[0], mlp.hidden_1.weight[1])


def test_members_of_a_seed_and_layers_of_a_network_are_drawn_apart():
    critic = SeedMLP((1, 2), 8, (8, 8), 1)
    critic.initialise(INITIALISATIONS["orthogonal"], Streams([0]), "critic")
    assert not torch.equal(critic.hidden_0.weight[0, 0], critic.hidden_0.weight[0, 1])
    assert not torch.equal(critic.hidden_0.weight, critic.hidden_1.weight)


def test_a_seed_is_initialised_the_same_alone_and_in_company():
    for scheme in INITIALISATIONS.values():
        together, alone = SeedMLP((3,), 5, (6,), 2), SeedMLP((1,), 5, (6,), 2)
        together.initialise(scheme, Streams([0, 1, 2]), "net")
        alone.initialise(scheme, Streams([2]), "net")
        for name, value in alone.state_dict().items():
            assert torch.equal(together.state_dict()[name][2:], value)


def policy_with(**changes):
    return random_parameters(GaussianPolicy(2, 3, 2, (8,), **changes))


def observations():
    return torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("tanh_mean", [True, False])
def test_the_log_density_is_that_of_independent_normals(tanh_mean):
    policy, obs = policy_with(tanh_mean=tanh_mean), observations()
    actions = torch.rand(2, 5, 2, generator=torch.Generator().manual_seed(6)) * 2 - 1
    mean = policy.mlp(obs)
    mean = torch.tanh(mean) if tanh_mean else mean
    normal = torch.distributions.Normal(mean, policy.log_std.exp())
    torch.testing.assert_close(policy.log_prob(obs, actions), normal.log_prob(actions).sum(-1))


def test_the_standard_deviation_is_kept_in_its_range():
    policy = policy_with(log_std_range=(-5.0, 2.0))
    policy.log_std.data = torch.tensor([[[-9.0, 0.5]], [[3.0, -5.0]]])
    _, log_std = policy(observations())
    assert log_std.flatten().tolist() == [-5.0, 0.5, 2.0, -5.0]


def test_without_streams_the_mode_acts_and_with_them_a_sample():
    policy, obs = policy_with(), observations()
    mean, log_std = policy(obs)
    assert torch.equal(policy.act(Observation(obs), None), mean.detach())
    noise = Streams([3, 4]).normal("action_noise", (5, 2))
    expected = (mean + log_std.exp() * noise).clamp(-1, 1)
    assert torch.equal(policy.act(Observation(obs), Streams([3, 4])), expected.detach())
    assert not policy.act(Observation(obs), None).requires_grad


def test_actions_are_clipped_to_the_policys_own_bound():
    policy = policy_with(tanh_mean=False, action_clip=0.99999)
    policy.mlp.output.bias.data.fill_(50.0)
    assert (policy.act(Observation(observations()), Streams([0, 1])) == 0.99999).all()


def test_observations_are_normalised_where_asked_for_and_only_once():
    plain, normalising = policy_with(), policy_with(normalise_observations=True)
    normalising.observation_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    normalising.observation_std.copy_(torch.tensor([2.0, 4.0, 0.5]))
    obs = observations()
    seen = (obs - torch.tensor([1.0, 2.0, 3.0])) / torch.tensor([2.0, 4.0, 0.5])
    assert torch.equal(normalising.act(Observation(obs), None), plain.act(Observation(seen), None))
    plain.observation_mean.fill_(7.0)
    assert torch.equal(plain.normalise(obs), obs)


def test_a_policy_is_rebuilt_from_plain_values_and_weights():
    policy = policy_with(normalise_observations=True, tanh_mean=False, layer_norm=True)
    policy.observation_mean.fill_(0.3)
    rebuilt = build_policy(policy.describe(), policy.state_dict())
    obs = Observation(observations())
    assert torch.equal(rebuilt.act(obs, None), policy.act(obs, None))
    assert not any(parameter.requires_grad for parameter in rebuilt.parameters())


def test_a_policy_of_another_class_is_refused_by_name():
    with pytest.raises(UserError, match="'Mystery'"):
        build_policy({"class": "Mystery", "arguments": {}}, {})


def test_an_unknown_activation_is_refused_with_those_that_there_are():
    with pytest.raises(UserError, match=r"activation\.name='swish'.*silu"):
        SeedMLP((1,), 2, (3,), 1, "swish")
