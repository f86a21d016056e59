"""Agreement with declared columns: shares, groups and categories by hand."""

import pytest
import torch
from torch import nn

from jsrl.core.errors import UserError
from jsrl.core.streams import Streams
from jsrl.monitor.attribution.agreement import (
    CATEGORIES,
    NO_ATTRIBUTION,
    category_shares,
    declared_groups,
    grouped,
    identical_columns,
    overlap,
    salient,
    share_inside,
    shared_interest,
)
from jsrl.monitor.attribution.control import randomised

DECLARED = torch.tensor([True, True, False, False])


def test_the_share_inside_is_that_of_sizes_without_signs() -> None:
    found = share_inside(
        torch.tensor([[1.0, -2.0, 0.5, -0.5], [0, 0, 1, 1], [0, 0, 0, 0]]), DECLARED
    )
    torch.testing.assert_close(found, torch.tensor([0.75, 0.0, torch.nan]), equal_nan=True)


def test_identical_columns_are_one_with_the_sum_of_their_attributions() -> None:
    rows = torch.tensor([[1.0, 5.0, 1.0, 0.0, 5.0], [2.0, 5.0, 2.0, 0.0, 6.0]])
    groups = identical_columns(rows)
    assert groups == [[0, 2], [1], [3], [4]]
    attributions = torch.tensor([[3.0, 1.0, -2.0, 0.0, 4.0]])
    assert grouped(attributions, groups).tolist() == [[1.0, 1.0, 0.0, 4.0]]
    # Who declares one of two equal columns declares what both say.
    assert declared_groups(groups, [2, 3]).tolist() == [True, False, True, False]


def test_salient_columns_are_the_fewest_that_hold_the_mass() -> None:
    attributions = torch.tensor([[0.5, -0.3, 0.2, 0.0], [1, 1, 1, 1], [0, 0, 0, 0]])
    expected = [[True, True, False, False], [True, True, True, True], [False] * 4]
    assert salient(attributions, 0.8).tolist() == expected
    assert salient(attributions, 0.5).tolist() == [
        [True, False, False, False],
        [True, True, False, False],
        [False] * 4,
    ]
    assert salient(attributions, 1.0)[0].tolist() == [True, True, True, False]


def test_scores_are_intersections_over_the_union_and_over_either_side() -> None:
    marked = torch.tensor([[True, False, True, False], [False] * 4])
    aligned, of_declared, of_salient = overlap(marked, DECLARED)
    assert aligned.tolist() == [1 / 3, 0.0]
    assert of_declared.tolist() == [0.5, 0.0]
    assert of_salient[0] == 0.5
    assert of_salient[1].isnan()


def test_the_eight_categories_by_hand() -> None:
    cases = torch.tensor(
        [
            [1.0, 1.0, 0.0, 0.0],  # the declared ones
            [1.0, 0.0, 0.0, 0.0],  # one of them
            [1.0, 1.0, 1.0, 1.0],  # them and others
            [1.0, 0.0, 1.0, 1.0],  # mostly others
        ]
    )
    rows = torch.cat([cases, cases, torch.zeros(1, 4)])
    found = shared_interest(rows, DECLARED, [True] * 4 + [False] * 5)
    assert found == [*CATEGORIES, NO_ATTRIBUTION]
    assert category_shares(found)["confuser"] == pytest.approx(1 / 9)
    assert sum(category_shares(found).values()) == pytest.approx(1)
    # With nothing declared everything is context.
    none = torch.zeros(4, dtype=torch.bool)
    assert shared_interest(cases, none, [True] * 4) == ["context dependent"] * 4


@pytest.mark.parametrize(("mass", "high"), [(0.0, 0.5), (1.1, 0.5), (0.5, 0.0), (0.5, 2.0)])
def test_bounds_outside_of_their_range_are_refused(mass: float, high: float) -> None:
    with pytest.raises(UserError, match=r"explain\.(mass|high)=.* must lie above 0"):
        shared_interest(torch.ones(1, 4), DECLARED, [True], mass, high)


def test_a_network_is_randomised_by_its_stream_alone_and_stays_as_it_is() -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = randomised(network, Streams([3], ("control", 0))).state_dict()
    again = randomised(network, Streams([3], ("control", 0))).state_dict()
    other = randomised(network, Streams([3], ("control", 1))).state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(found[name], again[name])
        # The normalisation has a number for each unit, which is no weight matrix.
        assert torch.equal(found[name], value) == name.startswith("1.")
        assert torch.equal(found[name], other[name]) == name.startswith("1.")
    assert found["2.weight"].abs().max() <= 8**-0.5
