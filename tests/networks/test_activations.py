"""Activations against their definitions, worked out here piece by piece, and exported."""

import math
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.learners.common import has_cpp_compiler
from jsrl.networks.activations import (
    ACTIVATIONS,
    PARAMETERS,
    GSmeLU,
    SmeLU,
    Softplus,
    Swish,
    activation_label,
    initialisation_gain,
    make_activation,
)
from jsrl.networks.layers import INITIALISATIONS, SeedMLP

# The exporters of PyTorch warn of one another.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

GENERAL = {"negative_slope": 0.1, "positive_slope": 1.3, "alpha": 0.7, "beta": 0.4, "offset": 0.2}
DECREASING = {
    "negative_slope": -0.5,
    "positive_slope": 0.25,
    "alpha": 0.0,
    "beta": 1.5,
    "offset": -1.0,
}
X = torch.linspace(-4, 4, 1601, dtype=torch.float64)


def smelu(x: torch.Tensor, beta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Value and derivative by the piecewise definition (Shamir et al. 2020)."""
    middle, right = x.abs() <= beta, x > beta
    value = torch.where(middle, (x + beta) ** 2 / (4 * beta), torch.where(right, x, 0.0))
    slope = torch.where(middle, (x + beta) / (2 * beta), right.double())
    return value, slope


def gsmelu(
    x: torch.Tensor,
    negative_slope: float,
    positive_slope: float,
    alpha: float,
    beta: float,
    offset: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Likewise, the parabola by its three coefficients."""
    g, h, t, width = negative_slope, positive_slope, offset, alpha + beta
    a = (h - g) / (2 * width)
    b = (alpha * h + beta * g) / width
    c = t + (alpha**2 * (h + g) + 2 * alpha * beta * g) / (2 * width)
    at_beta = a * beta**2 + b * beta + c
    left, right = x < -alpha, x > beta
    value = torch.where(left, t + g * (x + alpha), a * x**2 + b * x + c)
    value = torch.where(right, at_beta + h * (x - beta), value)
    slope = torch.where(left, g, torch.where(right, h, 2 * a * x + b))
    return value, slope


def value_and_slope(module: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.clone().requires_grad_()
    value = module(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), slope


@pytest.mark.parametrize("beta", [0.1, 0.25, 0.5, 1.0, 2.0])
def test_smelu_is_its_piecewise_definition(beta: float) -> None:
    value, slope = value_and_slope(SmeLU(beta), X)
    expected, expected_slope = smelu(X, beta)
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(slope, expected_slope, rtol=0, atol=1e-12)
    assert (value[-beta >= X] == 0).all() and (slope[beta <= X] == 1).all()
    # The composed form, which compilers and exporters see, is the same function.
    composed = SmeLU(beta).composed(X)
    torch.testing.assert_close(composed, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("given", [GENERAL, DECREASING])
def test_gsmelu_is_its_piecewise_definition(given: dict[str, float]) -> None:
    value, slope = value_and_slope(GSmeLU(**given), X)
    expected, expected_slope = gsmelu(X, **given)
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(slope, expected_slope, rtol=0, atol=1e-12)
    torch.testing.assert_close(GSmeLU(**given).composed(X), expected, rtol=0, atol=1e-12)
    at_knot = GSmeLU(**given)(torch.tensor(-given["alpha"], dtype=torch.float64))
    assert at_knot.item() == pytest.approx(given["offset"], abs=1e-12)


@pytest.mark.parametrize("module", [SmeLU(0.5), SmeLU(2.0), GSmeLU(**GENERAL)])
def test_first_and_second_derivatives_pass_pytorchs_own_checks(module: nn.Module) -> None:
    # Away from the knots, where the second derivative jumps.
    points = torch.tensor([-3.0, -1.9, -0.6, -0.31, 0.05, 0.33, 0.6, 1.7, 2.5]).double()
    points.requires_grad_()
    assert torch.autograd.gradcheck(module, points)
    assert torch.autograd.gradgradcheck(module, points)


def test_smelu_tends_to_relu_and_is_relu_at_0() -> None:
    x = X[X.abs() > 1e-3]
    relu = value_and_slope(nn.ReLU(), x)
    for beta in (1e-3, 1e-6, 0.0):
        value, slope = value_and_slope(SmeLU(beta), x)
        assert (value - relu[0]).abs().max() <= beta / 4
        torch.testing.assert_close(slope, relu[1])
    here = value_and_slope(SmeLU(0.0), torch.zeros(1))
    assert here[0].item() == 0 and here[1].item() == 0


@pytest.mark.parametrize("module", [SmeLU(0.5), SmeLU(0.0), GSmeLU(**GENERAL)])
def test_it_maps_traces_and_exports(module: nn.Module) -> None:
    x = X.float()
    expected, slope = value_and_slope(module, x)
    rows = x[:1600].view(40, 40)
    for axis in (0, 1):
        # Columns are not next to each other in memory: processors may round them otherwise.
        mapped = torch.vmap(module, axis, axis)(rows)
        torch.testing.assert_close(mapped, expected[:1600].view(40, 40), rtol=0, atol=1e-6)
    mapped = torch.func.vmap(torch.func.grad(lambda one: module(one)))(x)
    torch.testing.assert_close(mapped, slope)
    hessian = torch.func.vmap(torch.func.grad(torch.func.grad(lambda one: module(one))))(x)
    assert hessian.isfinite().all()
    for other in (torch.jit.trace(module, x), torch.export.export(module, (x,)).module()):
        torch.testing.assert_close(other(x), expected, rtol=0, atol=1e-6)


def test_torchscript_compiles_it(tmp_path) -> None:
    # In a process of its own, where the modules are not wrapped by the type checker of the tests.
    program = (
        "import sys, warnings; warnings.simplefilter('ignore'); import torch;"
        "from jsrl.networks.activations import GSmeLU, SmeLU;"
        "x = torch.linspace(-4, 4, 1601);"
        f"modules = [SmeLU(0.5), SmeLU(0.0), GSmeLU(**{GENERAL})];"
        "scripted = [torch.jit.script(module) for module in modules];"
        "torch.save([[m(x), s(x)] for m, s in zip(modules, scripted)], sys.argv[1])"
    )
    path = tmp_path / "values.pt"
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    for value, scripted in torch.load(path, weights_only=True):
        torch.testing.assert_close(scripted, value, rtol=0, atol=1e-6)


@pytest.mark.parametrize("module", [SmeLU(0.5), GSmeLU(**GENERAL)])
def test_onnx_gives_the_same_to_1e_6(module: nn.Module, tmp_path) -> None:
    x = X.float()[:, None]
    path = str(tmp_path / "smelu.onnx")
    batch = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(
        *(module.eval(), (x,), path),
        dynamo=True,
        input_names=["x"],
        dynamic_shapes=batch,
        external_data=False,
        verbose=False,
    )
    (found,) = onnxruntime.InferenceSession(path).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(found, module(x).numpy(), rtol=0, atol=1e-6)


@pytest.mark.skipif(not has_cpp_compiler(), reason="no C++ compiler")
def test_compiled_it_has_the_same_values_and_slopes() -> None:
    for module in (SmeLU(0.5), GSmeLU(**GENERAL)):
        expected = value_and_slope(module, X.float())
        found = value_and_slope(torch.compile(module, fullgraph=True), X.float())
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_swish_and_softplus_are_their_definitions() -> None:
    for beta in (0.5, 1.0, 3.0):
        torch.testing.assert_close(Swish(beta)(X), X * torch.sigmoid(beta * X))
        torch.testing.assert_close(Softplus(beta)(X), torch.log1p(torch.exp(beta * X)) / beta)


def test_a_forward_under_inference_mode_is_the_same() -> None:
    with torch.inference_mode():
        found = SmeLU(1.0)(X.float())
    torch.testing.assert_close(found, SmeLU(1.0)(X.float()))


def test_gains_keep_the_size_of_what_passes_through() -> None:
    # ReLU's and SmeLU's as measured elsewhere, tanh's and the rest by a second way: sampling.
    assert initialisation_gain("relu") == math.sqrt(2)
    for beta, gain in ((0.1, 1.414), (0.5, 1.410), (1.0, 1.380), (2.0, 1.224)):
        found = initialisation_gain({"name": "smelu", "beta": beta})
        assert found == pytest.approx(gain, abs=6e-4)
    z = torch.randn(2_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for name in ACTIVATIONS:
        size = make_activation(name)(z).square().mean().item()
        assert initialisation_gain(name) == pytest.approx(size**-0.5, rel=3e-3), name


def test_networks_draw_the_same_and_scale_by_the_gain() -> None:
    def weights(activation, scheme="orthogonal"):
        mlp = SeedMLP((2,), 3, (16, 16), 1, activation)
        mlp.initialise(INITIALISATIONS[scheme], Streams([0, 1]), "critic")
        return mlp.hidden_0.weight, mlp.hidden_1.weight, mlp.output.weight

    for scheme in INITIALISATIONS:
        relu = weights("relu", scheme)
        for activation in ("tanh", {"name": "smelu", "beta": 2.0}):
            ratio = initialisation_gain(activation) / math.sqrt(2)
            other = weights(activation, scheme)
            # What comes in from outside has passed through no activation.
            assert torch.equal(other[0], relu[0])
            for mine, theirs in zip(other[1:], relu[1:], strict=True):
                torch.testing.assert_close(mine, theirs * ratio)


def test_an_activation_is_made_from_plain_values() -> None:
    module = make_activation({"name": "smelu", "beta": 0.5})
    assert isinstance(module, SmeLU) and module.beta == 0.5
    assert isinstance(make_activation({"name": "gsmelu", **GENERAL}), GSmeLU)
    assert activation_label({"name": "smelu", "beta": 0.5}) == "smelu(beta=0.5)"
    assert activation_label("relu") == "relu"
    assert PARAMETERS["relu"] == PARAMETERS["gelu"] == ()
    assert PARAMETERS["gsmelu"] == tuple(GENERAL)


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        ("swish", r"activation\.name='swish' is unknown; choose one of .*'silu'"),
        ({"name": "smelu", "beta": -0.1}, r"activation\.beta=-0\.1 must be at least 0 \(smelu\)"),
        ({"name": "smelu", "beta": math.nan}, r"activation\.beta=nan must be at least 0"),
        ({"name": "silu", "beta": 0.0}, r"activation\.beta=0\.0 must be above 0 \(silu\)"),
        ({"name": "softplus", "beta": -1.0}, r"activation\.beta=-1\.0 must be above 0"),
        ({"name": "relu", "beta": 1.0}, r"activation\.beta=1\.0: relu takes no parameter"),
        ({"name": "smelu", "alpha": 1.0}, r"activation\.alpha=1\.0: smelu takes beta; leave"),
        ({"name": "gsmelu", "alpha": -1.0}, r"activation\.alpha=-1\.0 must be at least 0"),
        ({"name": "gsmelu", "offset": math.inf}, r"activation\.offset=inf must be a finite"),
    ],
)
def test_a_mistake_is_named(activation, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_activation(activation)
