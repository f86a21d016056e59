"""Image encoders: the published networks, and a seed's numbers the same alone and in company."""

import math

import pytest
import torch
from stable_baselines3.common.torch_layers import NatureCNN
from torch import nn

from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.networks.encoders import encoders
from jsrl.networks.encoders.convolution import SCHEMES, SeedConv2d
from jsrl.networks.encoders.encoder import NONE
from jsrl.networks.encoders.impala import SeedMaxPool
from jsrl.networks.layers import SeedLinear

KINDS = [kind for kind in encoders.names() if kind != NONE]


def encoder(kind, seeds, shape, **options):
    """An encoder of these seeds, with biases that count too."""
    made = encoders[kind].make(encoders[kind].options(kind=kind, **options), len(seeds), shape)
    made.initialise(Streams(seeds), "encoder")
    with torch.no_grad():
        for index, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(seed)
            for name, parameter in made.named_parameters():
                if name.endswith("bias"):
                    shape = parameter.shape[1:]
                    parameter[index] += 0.1 * torch.randn(shape, generator=generator)
    return made


def images(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def plain_convolution(layer, index=0):
    kernel = layer.weight.shape[-1]
    channels = layer.weight.shape[2], layer.weight.shape[1]
    own = nn.Conv2d(*channels, kernel, layer.stride, layer.padding)
    own.weight.data.copy_(layer.weight[index])
    own.bias.data.copy_(layer.bias[index])
    return own


def plain_linear(layer, index=0):
    own = nn.Linear(*layer.weight.shape[1:])
    own.weight.data.copy_(layer.weight[index].mT)
    own.bias.data.copy_(layer.bias[index, 0])
    return own


def convolutions_of(made):
    return [layer for layer in made.modules() if isinstance(layer, SeedConv2d)]


def drq_by_hand(made):
    convolutions = [plain_convolution(layer) for layer in convolutions_of(made)]
    norm = nn.LayerNorm(made.trunk.norm.weight.shape[-1])
    norm.weight.data.copy_(made.trunk.norm.weight[0, 0])
    norm.bias.data.copy_(made.trunk.norm.bias[0, 0])
    layers = [layer for convolution in convolutions for layer in (convolution, nn.ReLU())]
    linear = plain_linear(made.trunk.linear)
    return nn.Sequential(*layers, nn.Flatten(), linear, norm, nn.Tanh()), convolutions, linear


@pytest.mark.parametrize("centred", [False, True])
def test_drq_is_the_published_network_in_values_and_gradients(centred):
    made = encoder("drq", [3], (4, 20, 23), channels=6, features=7, centred=centred)
    x = images(1, 5, 4, 20, 23)
    by_hand, convolutions, linear = drq_by_hand(made)
    assert [c.stride[0] for c in convolutions] == [2, 1, 1, 1]
    assert {(c.kernel_size, c.padding) for c in convolutions} == {((3, 3), (0, 0))}
    out, expected = made(x), by_hand(x[0].float() / 255 - (0.5 if centred else 0))
    assert out.shape == (1, 5, 7)
    torch.testing.assert_close(out[0], expected)
    out.square().sum().backward()
    expected.square().sum().backward()
    for own, plain in zip(convolutions_of(made), convolutions, strict=True):
        torch.testing.assert_close(own.weight.grad[0], plain.weight.grad)
        torch.testing.assert_close(own.bias.grad[0], plain.bias.grad)
    torch.testing.assert_close(made.trunk.linear.weight.grad[0].mT, linear.weight.grad)
    torch.testing.assert_close(made.trunk.linear.bias.grad[0, 0], linear.bias.grad)


def test_nature_is_stable_baselines3s_network_with_the_same_weights():
    import gymnasium

    made = encoder("nature", [0, 1], (4, 84, 84))
    space = gymnasium.spaces.Box(0, 255, (4, 84, 84), "uint8")
    x = images(2, 3, 4, 84, 84)
    out = made(x)
    out.square().sum().backward()
    for seed in range(2):
        theirs = NatureCNN(space)
        layers = [layer for layer in theirs.modules() if isinstance(layer, nn.Conv2d)]
        for own, layer in zip(convolutions_of(made), layers, strict=True):
            assert (own.stride, own.padding) == (layer.stride[0], layer.padding[0])
            layer.load_state_dict(plain_convolution(own, seed).state_dict())
        theirs.linear[0].load_state_dict(plain_linear(made.trunk.linear, seed).state_dict())
        # SB3 divides by 255 before its extractor.
        expected = theirs(x[seed].float() / 255)
        torch.testing.assert_close(out[seed], expected)
        expected.square().sum().backward()
        for own, layer in zip(convolutions_of(made), layers, strict=True):
            torch.testing.assert_close(own.weight.grad[seed], layer.weight.grad)


def same_pooling(x):
    """TensorFlow's max pooling of 3×3 at every second pixel, ``SAME``, by its documentation."""
    for axis in (-2, -1):
        size = x.shape[axis]
        total = max((math.ceil(size / 2) - 1) * 2 + 3 - size, 0)
        pad = (total // 2, total - total // 2)
        pad = pad if axis == -1 else (0, 0, *pad)
        x = nn.functional.pad(x, pad, value=-math.inf).unfold(axis, 3, 2).amax(-1)
    return x


@pytest.mark.parametrize(("height", "width"), [(1, 2), (3, 4), (8, 9), (21, 42)])
def test_pooling_pads_as_tensorflow_does(height, width):
    x = torch.randn(2, 3, 4, height, width, generator=torch.Generator().manual_seed(0))
    pooled = SeedMaxPool()(x)
    assert pooled.shape[-2:] == ((height + 1) // 2, (width + 1) // 2)
    assert torch.equal(pooled, same_pooling(x))


def test_impala_is_the_published_network_in_values_and_gradients():
    made = encoder("impala", [5], (3, 18, 25), channels=[4, 5, 6], features=8)
    layers = convolutions_of(made)
    assert len(layers) == 15
    plain = [plain_convolution(layer) for layer in layers]
    assert {(c.kernel_size[0], c.padding[0], c.stride[0]) for c in plain} == {(3, 1, 1)}
    x = images(1, 4, 3, 18, 25)
    h = x[0].float() / 255
    for section in range(3):
        first, *block = plain[5 * section : 5 * section + 5]
        h = same_pooling(first(h))
        for one, two in (block[:2], block[2:]):
            h = h + two(torch.relu(one(torch.relu(h))))
    linear = plain_linear(made.trunk.linear)
    expected = torch.relu(linear(torch.relu(h).flatten(1)))
    out = made(x)
    torch.testing.assert_close(out[0], expected)
    out.square().sum().backward()
    expected.square().sum().backward()
    for own, layer in zip(layers, plain, strict=True):
        torch.testing.assert_close(own.weight.grad[0], layer.weight.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made.trunk.linear.weight.grad[0].mT, linear.weight.grad)


SHAPES = [(3, 64, 64), (1, 37, 41), (5, 36, 53), (9, 84, 84)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("seeds", "batch"), [(2, 1), (2, 3), (5, 1), (5, 2), (2, 32)])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_seed_is_encoded_bitwise_the_same_alone_and_in_company(kind, seeds, batch, shape):
    if batch == 32 and (kind == "impala" or shape[0] == 9):
        shape = (3, 36, 37)
    together = encoder(kind, range(seeds), shape)
    x = images(seeds, batch, *shape)
    out = together(x)
    out.square().sum().backward()
    for index in {0, seeds - 1}:
        alone = encoder(kind, [index], shape)
        own = alone(x[index : index + 1].clone())
        own.square().sum().backward()
        assert torch.equal(out[index : index + 1], own)
        assert own.abs().sum() > 0
        for (name, parameter), other in zip(
            together.named_parameters(), alone.parameters(), strict=True
        ):
            assert torch.equal(parameter[index : index + 1], other), name
            assert torch.equal(parameter.grad[index : index + 1], other.grad), name


def test_gradients_reach_the_input_of_a_convolution_bitwise_the_same():
    layer = SeedConv2d(3, 5, 7, 3, 2, 1)
    layer.initialise("pytorch", Streams([0, 1, 2]), "layer")
    alone = SeedConv2d(1, 5, 7, 3, 2, 1)
    alone.initialise("pytorch", Streams([1]), "layer")
    x = torch.randn(3, 4, 5, 9, 11, generator=torch.Generator().manual_seed(0)).requires_grad_()
    own = x[1:2].detach().clone().requires_grad_()
    layer(x).square().sum().backward()
    alone(own).square().sum().backward()
    assert torch.equal(x.grad[1:2], own.grad)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_convolutions_begin_as_the_scheme_says(scheme):
    layer = SeedConv2d(2, 8, 32, 3)
    layer.initialise(scheme, Streams([0, 1]), "layer")
    weight = layer.weight.detach()
    assert not torch.equal(weight[0], weight[1])
    if scheme == "pytorch":
        # As torch.nn.Conv2d: uniform on ±1/√(in·kernel²), the bias too.
        bound = 1 / math.sqrt(8 * 9)
        assert 0.99 * bound < weight.abs().max() <= bound
        assert weight.var().item() == pytest.approx(bound**2 / 3, rel=0.05)
        assert 0.8 * bound < layer.bias.abs().max() <= bound
        return
    assert layer.bias.abs().sum() == 0
    if scheme == "orthogonal":
        rows = weight.flatten(2)
        expected = 2 * torch.eye(32).expand(2, -1, -1)
        torch.testing.assert_close(rows @ rows.mT, expected, atol=1e-5, rtol=0)
        return
    centre = weight[..., 1, 1]
    expected = 2 * torch.eye(8).expand(2, -1, -1)
    torch.testing.assert_close(centre.mT @ centre, expected, atol=1e-5, rtol=0)
    # All that is not at the centre is 0.
    assert weight.abs().sum().item() == pytest.approx(centre.abs().sum().item())


@pytest.mark.parametrize("scheme", ["delta_orthogonal", "orthogonal"])
def test_drqs_linear_layer_begins_orthogonal_and_natures_with_the_gain_of_relu(scheme):
    for kind, gain in (("drq", 1.0), ("nature", 2.0)):
        made = encoders[kind].make(
            encoders[kind].options(kind=kind, initialisation=scheme, features=9), 1, (3, 40, 40)
        )
        made.initialise(Streams([0]), "encoder")
        weight = made.trunk.linear.weight[0].detach()
        expected = gain * torch.eye(9)
        torch.testing.assert_close(weight.mT @ weight, expected, atol=1e-5, rtol=0)
        assert made.trunk.linear.bias.abs().sum() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_pytorchs_scheme_gives_every_layer_pytorchs_own_bounds(kind):
    made = encoders[kind].make(
        encoders[kind].options(kind, initialisation="pytorch"), 1, (3, 36, 36)
    )
    made.initialise(Streams([0]), "encoder")
    for layer in made.modules():
        if isinstance(layer, SeedConv2d | SeedLinear):
            fan_in = (
                layer.weight[0, 0].numel()
                if isinstance(layer, SeedConv2d)
                else len(layer.weight[0])
            )
            for values in (layer.weight, layer.bias):
                assert 0 < values.abs().max() <= 1 / math.sqrt(fan_in)


@pytest.mark.parametrize(("kind", "smallest"), [("nature", 36), ("drq", 15), ("impala", 1)])
def test_the_smallest_image_is_encoded_and_a_smaller_one_refused(kind, smallest):
    made = encoder(kind, [0], (3, smallest, smallest))
    assert made(images(1, 2, 3, smallest, smallest)).shape == (1, 2, made.features)
    with pytest.raises(UserError, match=f"{kind} needs images of at least 1×{smallest}×{smallest}"):
        encoder(kind, [0], (3, smallest, smallest - 1))


def test_an_image_of_another_shape_is_refused():
    made = encoder("drq", [0], (3, 20, 20))
    with pytest.raises(UserError, match="4×20×20, but the encoder drq was made for 3×20×20"):
        made(images(1, 2, 4, 20, 20))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("drq", {"features": 0}, r"learner\.encoder\.features=0 must be at least 1"),
        ("drq", {"channels": 0}, r"learner\.encoder\.channels=0 must be at least 1"),
        ("impala", {"channels": []}, r"learner\.encoder\.channels=\[\] must be"),
        ("impala", {"channels": [4, 0]}, r"learner\.encoder\.channels=\[4, 0\] must be"),
        (
            "nature",
            {"initialisation": "he"},
            r"initialisation='he' is unknown; choose one of delta",
        ),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(kind, options, message):
    with pytest.raises(UserError, match=message):
        encoders[kind].options(kind=kind, **options).check()


def test_an_unknown_encoder_is_refused_with_the_nearest_that_there_is():
    with pytest.raises(UserError, match=r"'drqv2' is unknown; did you mean drq\?"):
        encoders["drqv2"]
