"""Methods of attribution: by hand, by completeness on every activation, and against captum."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import jsrl
from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.monitor.attribution.methods.fullgrad import implicit_biases
from jsrl.networks.activations import ACTIVATIONS, SmeLU, make_activation
from jsrl.networks.categorical import CategoricalPolicy
from jsrl.networks.deterministic import DeterministicPolicy
from jsrl.networks.epsilon_greedy import EpsilonGreedyPolicy
from jsrl.networks.layers import INITIALISATIONS
from jsrl.networks.mlp_policy import MlpPolicy
from jsrl.networks.policies import GaussianPolicy
from jsrl.networks.tanh_gaussian import TanhGaussianPolicy

COMPLETE = ("fullgrad", "integrated_gradients")
POLICIES = (
    GaussianPolicy,
    TanhGaussianPolicy,
    DeterministicPolicy,
    CategoricalPolicy,
    EpsilonGreedyPolicy,
)


def _policy(make: Callable[..., MlpPolicy] = GaussianPolicy, **arguments: object) -> MlpPolicy:
    policy = make(1, 4, 3, (8, 6), normalise_observations=True, observation_clip=1.5, **arguments)
    policy.mlp.initialise(INITIALISATIONS["pytorch"], Streams([5], ("test",)), "actor")
    with torch.no_grad():
        policy.mlp.output.weight.mul_(3)
    policy.set_normaliser(torch.tensor([5.0, -3.0, 0.5, 100.0]), torch.tensor([1.0, 2.0, 0.1, 7.0]))
    return policy


def _rows(count: int = 40) -> Tensor:
    drawn = torch.from_numpy(np.random.default_rng(2).normal(size=(count, 4)))
    return torch.tensor([5.0, -3.0, 0.5, 100.0]) + torch.tensor([1.0, 2.0, 0.1, 7.0]) * drawn


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layer_norm", [False, True])
def test_fullgrad_is_complete_on_every_activation(activation: str, layer_norm: bool) -> None:
    policy = _policy(activation=activation, layer_norm=layer_norm)
    rows = _rows()
    found = jsrl.explain(policy, rows, "fullgrad")
    answers = policy.layers_without_seeds(0)
    chained = nn.Sequential(*answers.values()).double()(rows)
    torch.testing.assert_close(found.outputs, chained)
    assert found.residual.abs().max() < 1e-5
    assert found.columns.shape == (40, 3, 4)
    # Tanh and clip have biases of their own, which matter.
    assert found.biases["tanh"].abs().max() > 0.01


@pytest.mark.parametrize("make", POLICIES)
@pytest.mark.parametrize("method", COMPLETE)
def test_contributions_add_up_for_every_policy(make: Callable[..., MlpPolicy], method: str) -> None:
    policy = _policy(make, activation="smelu")
    found = jsrl.explain(policy, _rows(), method)
    chooses = make in (CategoricalPolicy, EpsilonGreedyPolicy)
    assert found.outputs.shape == (40, 1 if chooses else 3)
    tolerance = 1e-5 if method == "fullgrad" else 2e-3
    assert found.residual.abs().max() < tolerance


def test_a_clip_of_the_action_has_a_bias_and_no_gradient() -> None:
    policy = _policy(tanh_mean=False)
    with torch.no_grad():
        policy.mlp.output.bias.fill_(50.0)
    found = jsrl.explain(policy, _rows())
    assert (found.outputs == 1).all()
    assert (found.columns == 0).all()
    torch.testing.assert_close(found.biases["clip"], found.outputs)


def test_implicit_biases_of_smelu_are_those_of_the_parabola() -> None:
    z = torch.linspace(-2, 2, 41, dtype=torch.float64)[None]
    for beta in (0.5, 1.0, 1.7):
        inside = (beta**2 - z**2) / (4 * beta)
        expected = torch.where(z.abs() < beta, inside, torch.zeros_like(z))
        torch.testing.assert_close(implicit_biases(SmeLU(beta), z), expected)
    assert (implicit_biases(nn.ReLU(), z) == 0).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_fullgrad_equals_a_second_implementation(activation: str) -> None:
    """One hidden layer by hand: derivatives by central differences."""
    generator = np.random.default_rng(4)
    w1, b1 = generator.normal(size=(5, 3)), generator.normal(size=5)
    w2, b2 = generator.normal(size=(2, 5)), generator.normal(size=2)
    network = nn.Sequential(nn.Linear(3, 5), make_activation(activation), nn.Linear(5, 2)).double()
    with torch.no_grad():
        for layer, (w, b) in ((0, (w1, b1)), (2, (w2, b2))):
            network[layer].weight.copy_(torch.from_numpy(w))
            network[layer].bias.copy_(torch.from_numpy(b))
    x = generator.normal(size=(20, 3))
    z, h = x @ w1.T + b1, 1e-6

    def function(values: np.ndarray) -> np.ndarray:
        return make_activation(activation)(torch.from_numpy(values)).numpy()

    slope = (function(z + h) - function(z - h)) / (2 * h)
    back = w2[None] * slope[:, None]
    found = jsrl.explain(network, x)
    columns = np.einsum("nkh,hi,ni->nki", back, w1, x)
    np.testing.assert_allclose(found.columns, columns, atol=1e-5)
    np.testing.assert_allclose(found.biases["0"], back @ b1, atol=1e-5)
    implicit = np.einsum("kh,nh->nk", w2, function(z) - slope * z)
    np.testing.assert_allclose(found.biases["1"], implicit, atol=1e-5)
    np.testing.assert_allclose(found.biases["2"], np.tile(b2, (20, 1)), atol=1e-5)


def test_methods_agree_on_a_linear_network_whose_contributions_are_known() -> None:
    network = nn.Linear(3, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[2.0, -1.0, 0.0]]))
        network.bias.fill_(4.0)
    rows = np.array([[1.0, 2.0, 3.0], [0.0, 5.0, -1.0]])
    baseline = [1.0, 1.0, 1.0]
    expected = [[[0.0, -1.0, 0.0]], [[-2.0, -4.0, 0.0]]]
    for method in ("gradient_x_input", "occlusion", "integrated_gradients"):
        found = jsrl.explain(network, rows, method, baseline=baseline)
        np.testing.assert_allclose(found.columns, expected, atol=1e-12)
    full = jsrl.explain(network, rows, "fullgrad")
    np.testing.assert_allclose(full.columns, [[[2.0, -2.0, 0.0]], [[0.0, -5.0, 0.0]]])
    np.testing.assert_allclose(full.rest, 4.0)


def test_what_a_normalisation_subtracts_counts_to_its_column() -> None:
    policy = _policy()
    rows = torch.tensor([[5.0, -3.0, 0.5, 100.0]])
    # Every normalised column is 0, however large it is as the environment gives it.
    assert jsrl.explain(policy, rows).columns.abs().max() < 1e-6


def test_integrated_gradients_take_more_steps_where_they_have_to() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    with torch.no_grad():
        network[0].weight.fill_(1.0)
        network[0].bias.fill_(-0.501)
    few = {"kind": "integrated_gradients", "steps": 1, "most_steps": 1}
    coarse = jsrl.explain(network, torch.ones(1, 1), few, baseline=[0.0])
    assert coarse.residual.abs().max() > 0.1
    fine = jsrl.explain(network, torch.ones(1, 1), {**few, "most_steps": 4096}, baseline=[0.0])
    assert fine.residual.abs().max() <= 1e-3
    alone = jsrl.explain(network, torch.ones(1, 1), {**few, "most_steps": 64}, baseline=[0.0])
    among = jsrl.explain(
        network, torch.tensor([[0.3], [1.0]]), {**few, "most_steps": 64}, baseline=[0.0]
    )
    assert torch.equal(alone.columns[0], among.columns[1])


def test_integrated_gradients_and_occlusion_are_those_of_captum() -> None:
    attr = pytest.importorskip("captum.attr")
    network = nn.Sequential(nn.Linear(4, 8), SmeLU(), nn.Linear(8, 2), nn.Tanh()).double()
    rows, baseline = _rows(6).double() / 10, torch.zeros(1, 4).double()
    found = jsrl.explain(network, rows, "integrated_gradients", baseline=[0.0] * 4)
    expected = attr.IntegratedGradients(network).attribute(rows, baseline, target=1, n_steps=500)
    torch.testing.assert_close(found.columns[:, 1], expected, atol=1e-3, rtol=1e-3)
    occluded = attr.FeatureAblation(network).attribute(rows, baseline, target=1)
    own = jsrl.explain(network, rows, "occlusion", baseline=[0.0] * 4)
    torch.testing.assert_close(own.columns[:, 1], occluded)


class _Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * x[:, :2]


def test_what_does_not_fit_is_refused_by_name() -> None:
    rows = _rows(3)
    with pytest.raises(UserError, match=r"'1', a _Branching.*integrated_gradients"):
        jsrl.explain(nn.Sequential(nn.Linear(4, 4), _Branching()), rows)
    assert jsrl.explain(_Branching(), rows, "integrated_gradients").residual.abs().max() < 1e-2
    with pytest.raises(UserError, match=r"deeplift is not offered.*smooth"):
        jsrl.explain(nn.Linear(4, 2), rows, "deeplift")
    with pytest.raises(UserError, match="did you mean fullgrad"):
        jsrl.explain(nn.Linear(4, 2), rows, "fulgrad")
    with pytest.raises(UserError, match=r"takes kind, most_steps, steps, tolerance"):
        jsrl.explain(nn.Linear(4, 2), rows, {"kind": "integrated_gradients", "step": 3})
    with pytest.raises(UserError, match=r"method.most_steps=3 must be at least method.steps=32"):
        jsrl.explain(nn.Linear(4, 2), rows, {"kind": "integrated_gradients", "most_steps": 3})
    with pytest.raises(UserError, match=r"rows have 4 columns, and the policy's observations 5"):
        jsrl.explain(GaussianPolicy(1, 5, 1, (3,)), rows)
    with pytest.raises(UserError, match=r"2 seeds.*select"):
        jsrl.explain(GaussianPolicy(2, 4, 1, (3,)), rows)
    with pytest.raises(UserError, match="not finite"):
        jsrl.explain(nn.Linear(4, 2), rows * torch.nan)
    with pytest.raises(UserError, match=r"targets must name .* 3 rows, from 0 to 1"):
        jsrl.explain(nn.Linear(4, 2), rows, targets=[0, 1, 2])
    with pytest.raises(UserError, match="baseline has the shape"):
        jsrl.explain(nn.Linear(4, 2), rows, baseline=[0.0])


class _Doubling(GaussianPolicy):
    def greedy(self, features: Tensor) -> Tensor:
        return 2 * super().greedy(features)


def test_a_policy_that_does_not_act_by_its_layers_is_refused() -> None:
    with pytest.raises(UserError, match=r"_Doubling answer otherwise"):
        jsrl.explain(_policy(_Doubling), _rows(3))


def test_images_are_refused_by_name() -> None:
    policy = GaussianPolicy(
        1, 4, 2, (3,), images={"camera": (3, 36, 36)}, encoder={"kind": "nature"}
    )
    with pytest.raises(UserError, match="images camera"):
        jsrl.explain(policy, _rows(3))


def test_numbers_that_are_appended_are_biases() -> None:
    policy = GaussianPolicy(1, 3, 2, (5,), appended=[7.0], normalise_observations=True)
    policy.mlp.initialise(INITIALISATIONS["pytorch"], Streams([1], ("test",)), "actor")
    found = jsrl.explain(policy, _rows(5)[:, :3])
    assert found.columns.shape == (5, 2, 3)
    assert "appended" in found.biases
    assert found.residual.abs().max() < 1e-5
