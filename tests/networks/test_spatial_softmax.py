"""``learner.encoder=spatial_softmax``: its points by hand, and what it refuses.

That a seed is encoded the same alone and in company stands with the other encoders.
"""

import numpy as np
import pytest
import torch
from small_runs import composed
from torch import nn

from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.networks.encoders import encoders
from jsrl.networks.encoders.convolution import SeedConv2d
from jsrl.networks.encoders.spatial_softmax import SeedSpatialSoftmax, SpatialSoftmaxOptions


def make(shape, seeds=(3,), **options):
    kind = encoders["spatial_softmax"]
    made = kind.make(kind.options(kind=kind.name, **options), len(seeds), shape)
    made.initialise(Streams(list(seeds)), "encoder")
    return made


def images(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def points_by_hand(maps, alpha):
    """The expected coordinates of each map, in float64, by loops over rows and columns."""
    found = np.zeros((*maps.shape[:2], 2))
    rows, columns = maps.shape[2:]
    for place in np.ndindex(*maps.shape[:2]):
        weights = np.exp(maps[place].astype(np.float64) / alpha)
        total = weights.sum()
        for i in range(rows):
            for j in range(columns):
                where = np.array([2 * j / (columns - 1) - 1, 2 * i / (rows - 1) - 1])
                found[place] += weights[i, j] / total * where
    return found


def test_points_are_expected_coordinates_under_each_seeds_temperature():
    layer = SeedSpatialSoftmax(2, 3, 5)
    maps = torch.randn(2, 4, 6, 3, 5, generator=torch.Generator().manual_seed(1))
    layer.temperature.data = torch.tensor([1.0, 0.3])
    found = layer(maps).detach().numpy()
    for seed, alpha in enumerate((1.0, 0.3)):
        np.testing.assert_allclose(
            found[seed], points_by_hand(maps[seed].numpy(), alpha), atol=1e-6
        )
    # One bright pixel is its own place, equal pixels are the middle.
    bright = torch.zeros(2, 1, 2, 3, 5)
    bright[:, :, 0, 2, 0] = 1000.0
    np.testing.assert_allclose(layer(bright)[:, 0].detach(), [[[-1, 1], [0, 0]]] * 2, atol=1e-6)


def test_the_temperature_is_learnt_by_its_own_derivative():
    layer = SeedSpatialSoftmax(1, 4, 3).double()
    maps = torch.randn(1, 2, 3, 4, 3, generator=torch.Generator().manual_seed(2)).double()
    assert torch.autograd.gradcheck(lambda alpha: torch.func.functional_call(
        layer, {"temperature": alpha}, (maps,)), layer.temperature)  # fmt: skip


def test_it_is_the_published_network():
    made = make((3, 40, 29), features=10)
    plain = []
    for layer in made.modules():
        if isinstance(layer, SeedConv2d):
            shape = layer.weight.shape
            own = nn.Conv2d(shape[2], shape[1], shape[3], layer.stride)
            own.weight.data.copy_(layer.weight[0])
            own.bias.data.copy_(layer.bias[0])
            plain += [own, nn.ReLU()]
    found = [(c.out_channels, c.kernel_size[0], c.stride[0]) for c in plain[::2]]
    assert found == [(64, 7, 2), (32, 5, 1), (5, 5, 1)]
    x = images(1, 2, 3, 40, 29)
    with torch.no_grad():
        maps = nn.Sequential(*plain)(x[0].float() / 255).numpy()
        out = made(x)
    assert out.shape == (1, 2, 10) and made.features == 10
    np.testing.assert_allclose(out[0], points_by_hand(maps, 1.0).reshape(2, 10), atol=1e-5)


def test_a_moved_image_moves_its_points_and_nothing_else():
    made = make((1, 61, 61), features=8)
    x = torch.zeros(1, 2, 1, 61, 61, dtype=torch.uint8)
    x[0, 0, 0, 24:28, 24:28] = 255
    x[0, 1, 0, 34:38, 30:34] = 255
    with torch.no_grad():
        made.convolutions.points.temperature.fill_(1e-3)
        for layer in made.modules():
            if isinstance(layer, SeedConv2d):
                layer.bias.zero_()
        first, second = made(x)[0].unflatten(-1, (4, 2))
    # The last maps have 20 pixels a side, a pixel for two of the image.
    moved = (second - first)[first.abs().sum(-1) > 1e-3]
    assert len(moved) > 0
    np.testing.assert_allclose(moved, [[3 * 2 / 19, 5 * 2 / 19]] * len(moved), atol=1e-4)


def test_what_is_out_of_range_is_refused():
    with pytest.raises(UserError, match="features=9 must be even"):
        SpatialSoftmaxOptions(kind="spatial_softmax", features=9).check()
    assert make((3, 25, 25))(images(1, 2, 3, 25, 25)).abs().sum() > 0
    with pytest.raises(UserError, match="spatial_softmax needs images of at least 1×25×25"):
        make((3, 25, 24))


def test_it_is_chosen_by_name():
    typed, plain = composed("run_dir=x", "learner/encoder=spatial_softmax")
    assert typed.learner.encoder == SpatialSoftmaxOptions(kind="spatial_softmax")
    assert plain["learner"]["encoder"]["features"] == 32
