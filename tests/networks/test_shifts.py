"""Random shifts of images: against plain NumPy, and against DrQ-v2's published code."""

import numpy as np
import pytest
import torch

from jsrl.core.streams import Streams
from jsrl.networks.encoders.shifts import (
    draw_fractional_shifts,
    draw_shifts,
    mean_over_shifts,
    shift,
    shift_bilinear,
)

S, B = 2, 6


def images(height=11, width=14):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (S, B, 3, height, width), dtype=torch.uint8, generator=generator)


def by_numpy(x, shifts, pad):
    """Padded by the edge, then a window of four pixels' weights around each place."""
    x, shifts = x.numpy().astype(np.float64), shifts.numpy().astype(np.float64)
    out = np.empty_like(x)
    height, width = x.shape[-2:]
    for s in range(S):
        for b in range(B):
            padded = np.pad(x[s, b], ((0, 0), (pad, pad), (pad, pad)), mode="edge")
            for row in range(height):
                for column in range(width):
                    down, right = row + shifts[s, b, 0], column + shifts[s, b, 1]
                    value = 0
                    for i in {int(np.floor(down)), int(np.ceil(down))}:
                        for j in {int(np.floor(right)), int(np.ceil(right))}:
                            weight = (1 - abs(i - down)) * (1 - abs(j - right))
                            value = value + weight * padded[:, i, j]
                    out[s, b, :, row, column] = value
    return out


@pytest.mark.parametrize("pad", [0, 1, 4])
def test_whole_shifts_are_those_of_numpy(pad):
    x = images()
    shifts = draw_shifts(Streams([0, 1]), "shift", B, pad)
    shifts[0, 0] = torch.tensor([0, 2 * pad])
    shifts[0, 1] = torch.tensor([2 * pad, 0])
    shifted = shift(x, shifts, pad)
    assert shifted.dtype == torch.uint8
    assert np.array_equal(shifted.numpy(), by_numpy(x, shifts, pad))


def test_a_shift_of_the_padding_changes_nothing():
    x = images()
    assert torch.equal(shift(x, torch.full((S, B, 2), 4)), x)
    assert not torch.equal(shift(x, torch.full((S, B, 2), 3)), x)


def test_shifts_by_parts_of_a_pixel_are_those_of_numpy():
    x = images()
    shifts = draw_fractional_shifts(Streams([0, 1]), "shift", B)
    shifts[0, 0] = torch.tensor([0.0, 8.0])
    shifts[0, 1] = torch.tensor([7.75, 0.25])
    found = shift_bilinear(x, shifts)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), by_numpy(x, shifts, 4), atol=1e-3)


def test_bilinear_at_whole_shifts_is_exactly_the_whole_shift():
    x, shifts = images(), draw_shifts(Streams([0, 1]), "shift", B)
    assert torch.equal(shift_bilinear(x, shifts), shift(x, shifts).float())


def drq_v2(x, shifts, pad):
    """``RandomShiftsAug.forward`` of facebookresearch/drqv2, for given whole shifts (x, y)."""
    n, _, h, w = x.shape
    assert h == w
    x = torch.nn.functional.pad(x, (pad, pad, pad, pad), "replicate")
    eps = 1.0 / (h + 2 * pad)
    arange = torch.linspace(-1.0 + eps, 1.0 - eps, h + 2 * pad)[:h]
    arange = arange.unsqueeze(0).repeat(h, 1).unsqueeze(2)
    base = torch.cat([arange, arange.transpose(1, 0)], dim=2).unsqueeze(0).repeat(n, 1, 1, 1)
    grid = base + shifts.reshape(n, 1, 1, 2).float() * 2.0 / (h + 2 * pad)
    return torch.nn.functional.grid_sample(x, grid, padding_mode="zeros", align_corners=False)


def test_drq_v2s_code_gives_the_same_images_up_to_rounding():
    x, shifts = images(13, 13), draw_shifts(Streams([0, 1]), "shift", B)
    # Its grid holds columns before rows.
    expected = drq_v2(x.float().flatten(0, 1), shifts.flip(-1).flatten(0, 1), 4)
    found = shift_bilinear(x, shifts).flatten(0, 1)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


def test_shifts_are_uniform_over_all_whole_numbers_in_range():
    drawn = draw_shifts(Streams([3]), "shift", 9000)
    counts = torch.bincount(drawn.flatten(), minlength=9)
    assert len(counts) == 9
    # 2,000 expected of each; chi-square with 8 degrees of freedom is above 26.1 once in 1,000.
    assert ((counts - 2000) ** 2 / 2000).sum() < 26.1
    fractions = draw_fractional_shifts(Streams([3]), "shift", 9000)
    assert 0 <= fractions.min() < 0.01
    assert 7.99 < fractions.max() < 8


def test_a_seeds_shifts_and_images_do_not_depend_on_its_company():
    x = images()
    for draw, move in ((draw_shifts, shift), (draw_fractional_shifts, shift_bilinear)):
        together = move(x, draw(Streams([0, 1]), "shift", B))
        alone = move(x[1:].clone(), draw(Streams([1]), "shift", B))
        assert torch.equal(together[1:], alone)


def test_the_target_is_the_mean_over_two_shifts_of_the_next_observations():
    x, streams = images(), Streams([0, 1])
    shifts = torch.stack([draw_shifts(streams, "target_shift", B) for _ in range(2)])
    assert not torch.equal(shifts[0], shifts[1])
    weights = np.linspace(-1, 1, 3 * 11 * 14).reshape(3, 11, 14)

    def value(shifted):
        return torch.tanh((shifted.double() * torch.from_numpy(weights)).sum((2, 3, 4)) / 1000)

    found = mean_over_shifts(value, x, shifts)
    expected = np.mean(
        [np.tanh((by_numpy(x, one, 4) * weights).sum((2, 3, 4)) / 1000) for one in shifts], axis=0
    )
    assert found.shape == (S, B)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
