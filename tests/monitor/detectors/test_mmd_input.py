"""What samples the two-sample tests take: of any unit and type; and what they refuse."""

import pytest
import torch
from monitor.draws import generator, normal

from jsrl.core.errors import UserError
from jsrl.monitor.detectors.mmd import (
    mmd_permutation_test,
    mmd_permutation_tests,
)

UNITS = (1e-300, 1e-40, 1e-24, 1e-20, 1e-6, 1e19, 1e20, 1e37, 1e300)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shift", [0.3, 1.0])
def test_the_unit_of_the_samples_does_not_matter(unit, dtype, shift):
    # At the ends of float32 a sample would no longer be a number.
    if dtype == torch.float32 and not 1e-40 <= unit <= 1e37:
        return
    x, y = normal((60, 3), 1), normal((50, 3), 2, shift)
    expected = mmd_permutation_test(x, y, permutations=300, generator=generator())
    x, y = (x * unit).to(dtype), (y * unit).to(dtype)
    found = mmd_permutation_test(x, y, permutations=300, generator=generator())
    # Below 1e-38 float32 has few digits left.
    few = dtype == torch.float32 and unit < 1e-38
    assert found.p_value == pytest.approx(expected.p_value, abs=0.01 if few else 1e-12)
    assert found.statistic == pytest.approx(expected.statistic, abs=1e-2 if few else 1e-5)
    assert found.bandwidth == pytest.approx(unit * expected.bandwidth, rel=1e-2 if few else 1e-5)
    assert not found.degenerate
    many = mmd_permutation_tests([x[None]], [y[None]], 300, generator=generator())
    assert float(many.p_values) == pytest.approx(found.p_value, abs=0.01)
    assert float(many.bandwidths) == pytest.approx(found.bandwidth, rel=1e-2 if few else 1e-5)


def test_one_sample_far_off_does_not_hide_what_the_others_say():
    x, y = normal((40, 3), 1), normal((40, 3), 2, 1.0)
    x[7] = 1e30
    for dtype in (torch.float32, torch.float64):
        found = mmd_permutation_test(
            x.to(dtype), y.to(dtype), permutations=500, generator=generator()
        )
        assert found.p_value == found.smallest_p
        many = mmd_permutation_tests(
            [x.to(dtype)[None]], [y.to(dtype)[None]], 500, generator=generator()
        )
        assert float(many.p_values) == many.smallest_p


def test_of_several_sets_each_is_tested_in_its_own_unit():
    x, y = normal((4, 30, 2), 1).float(), normal((4, 30, 2), 2, 0.5).float()
    expected = mmd_permutation_tests([x], [y], 200, generator=generator())
    units = torch.tensor([1.0, 1e-24, 0.0, 1e19])[:, None, None]
    found = mmd_permutation_tests([x * units], [y * units], 200, generator=generator())
    assert found.degenerate[:, 0].tolist() == [False, False, True, False]
    assert found.p_values[2, 0] == 1
    for one in (0, 1, 3):
        assert found.p_values[one, 0] == pytest.approx(float(expected.p_values[one, 0]), abs=0.01)


@pytest.mark.parametrize(
    "dtype",
    [torch.int64, torch.int8, torch.uint8, torch.float16, torch.bfloat16, torch.float64],
)
def test_samples_of_any_real_type_are_tested(dtype):
    x, y = ((10 * normal((40, 3), seed, seed)).round().clamp(0, 100) for seed in (1, 2))
    expected = mmd_permutation_test(x, y, permutations=200, generator=generator())
    for other in (dtype, torch.float32):
        found = mmd_permutation_test(
            x.to(dtype), y.to(other), permutations=200, generator=generator()
        )
        assert found == expected
    many = mmd_permutation_tests(
        [x.to(dtype)[None]], [y.to(dtype)[None]], 200, generator=generator()
    )
    assert float(many.p_values) == expected.p_value
    flags = mmd_permutation_test(x > 10, y > 10, permutations=200, generator=generator())
    assert 0 < flags.p_value < 1


@pytest.mark.parametrize(
    "x, y, said",
    [
        ([(3, 9, 2)], [(2, 9, 2)], r"x has shape \(3, 9, 2\) and y \(2, 9, 2\)"),
        ([(3, 9, 2)], [(3, 9, 4)], r"expected \[T, N, D\] and \[T, M, D\] with the same T and D"),
        ([(9, 2)], [(9, 2)], r"x has shape \(9, 2\)"),
        ([(0, 9, 2)], [(0, 9, 2)], "at least 1"),
        ([(3, 9, 0)], [(3, 9, 0)], "at least 1"),
        ([(3, 1, 2)], [(3, 9, 2)], "x has 1 samples"),
        ([(3, 9, 2), (3, 8, 2)], [(3, 9, 2)] * 2, r"x of layer 1 has shape \(3, 8, 2\)"),
        ([(3, 9, 2)] * 2, [(3, 9, 2), (3, 8, 2)], r"y of layer 1 has shape \(3, 8, 2\)"),
        ([(3, 9, 2), (2, 9, 2)], [(3, 9, 2), (2, 9, 2)], r"that of layer 0 \(3, 9, 2\)"),
        ([(3, 9, 2)], [(3, 9, 2)] * 2, r"as many layers in y \(2\) as in x \(1\)"),
        ([], [], "at least 1"),
    ],
)
def test_sets_that_do_not_fit_are_told_with_their_shapes(x, y, said):
    x, y = ([torch.zeros(shape) for shape in side] for side in (x, y))
    with pytest.raises(UserError, match=said):
        mmd_permutation_tests(x, y, 9, generator=generator())


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("side", ["x", "y"])
def test_what_is_not_finite_is_found_in_every_set_of_every_layer(value, side):
    layers = {"x": [normal((5, 9, 2), 1) for _ in "ab"], "y": [normal((5, 9, 2), 2) for _ in "ab"]}
    layers[side][1][3, 8, 1] = value
    with pytest.raises(UserError, match=rf"{side} of layer 1 has 1 numbers.* in sets \[3\]"):
        mmd_permutation_tests(layers["x"], layers["y"], 9, generator=generator())
    with pytest.raises(UserError, match=f"{side} has 1 numbers that are not finite;"):
        mmd_permutation_test(
            layers["x"][1][3], layers["y"][1][3], permutations=9, generator=generator()
        )


@pytest.mark.parametrize(
    "x, y, options, said",
    [
        (torch.zeros(3, 2), torch.zeros(3, 3), {}, r"\(3, 3\)"),
        (torch.zeros(1, 2), torch.zeros(3, 2), {}, "x has 1 samples"),
        (torch.zeros(3, 2), torch.full((3, 2), torch.nan), {}, "y has 6 numbers"),
        (torch.rand(3, 2, generator=generator()), torch.ones(3, 2), {}, "generator is missing"),
        (torch.zeros(3, 2), torch.ones(3, 2), {"groups_x": torch.arange(3)}, "groups_y is missing"),
        (
            torch.zeros(3, 2),
            torch.ones(3, 2),
            {"groups_x": torch.arange(2), "groups_y": torch.arange(3)},
            "groups_x has shape",
        ),
        (torch.zeros(40, 2), torch.ones(40, 2), {"exhaustive": True}, "can be split in"),
        (torch.zeros(3), torch.ones(3), {}, r"x has shape \(3,\)"),
        (torch.zeros(0, 2), torch.ones(3, 2), {}, "x has 0 samples"),
        (torch.zeros(3, 2, dtype=torch.cfloat), torch.ones(3, 2), {}, "x holds complex numbers"),
        (torch.zeros(3, 2), torch.ones(3, 2, device="meta"), {}, "x is on cpu and y on meta"),
        (
            torch.zeros(3, 2),
            torch.ones(3, 2),
            {"groups_x": torch.rand(3, generator=generator()), "groups_y": torch.arange(3)},
            "groups_x is of torch.float32; expected whole numbers",
        ),
        (
            torch.zeros(3, 2),
            torch.ones(3, 2),
            {"permutations": 0, "generator": generator()},
            "permutations=0",
        ),
    ],
)
def test_bad_input_is_explained(x, y, options, said):
    with pytest.raises(UserError, match=said):
        mmd_permutation_test(x, y, **options)
