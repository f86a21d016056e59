"""Three ways to convolve for several seeds: the same numbers up to rounding, and a row for each."""

import pytest
import torch

from jsrl.benchmark.convolutions import (
    WAYS,
    Case,
    all_cases,
    convolutions,
    forward_and_backward,
    measure,
    same_alone,
)
from jsrl.networks.encoders.convolution import SeedConv2d


@pytest.mark.parametrize("kind", ["nature", "impala"])
@pytest.mark.parametrize("way", [way for way in WAYS if way != "loop"])
def test_every_way_computes_what_the_loop_does(kind, way):
    x = torch.rand(3, 2, 5, 37, 40, generator=torch.Generator().manual_seed(0))
    expected, gradients = forward_and_backward(convolutions(kind, x.shape[2:], range(3), "loop"), x)
    found, others = forward_and_backward(convolutions(kind, x.shape[2:], range(3), way), x)
    torch.testing.assert_close(found, expected)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)


class Mixing(SeedConv2d):
    """Convolutions to which each seed adds a little of the sum over all seeds."""

    def forward(self, x):
        out = super().forward(x)
        return out + 1e-6 * out.sum(0, keepdim=True)


def test_a_loop_is_bitwise_the_same_alone_and_the_check_would_notice_otherwise(monkeypatch):
    case = Case("drq", (3, 21, 21), 2, 3)
    x = torch.rand(3, 2, 3, 21, 21, generator=torch.Generator().manual_seed(0))
    assert same_alone(case, "loop", x) == (True, True)
    monkeypatch.setitem(WAYS, "mixing", Mixing)
    assert same_alone(case, "mixing", x) == (False, False)


def test_a_row_has_a_cell_for_each_way():
    row = measure(Case("drq", (1, 15, 16), 1, 2), 0.0)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:4] == ["drq", "1×15×16", "1", "2"]
    assert all(float(cell) > 0 for cell in cells[4:6])
    assert len(cells) == 4 + 2 + 3
    assert cells[6] == "same"


def test_batches_and_seeds_are_those_that_are_asked_for():
    cases = list(all_cases())
    assert {case.batch for case in cases} == {1, 32, 256}
    assert {case.seeds for case in cases} == {1, 2, 5}
    assert {case.kind for case in cases} >= {"drq", "impala", "nature"}
