"""Shapes and dtypes are checked in every function of the package while it is tested."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import type_checker
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float, Int
from torch import Tensor

from jsrl.core.observations import Observation
from jsrl.monitor.detectors.kernels import gaussian_kernel
from jsrl.statistics import episodes_interval

REFUSED = pytest.raises(BeartypeCallHintViolation)


def test_functions_of_the_package_are_checked():
    with REFUSED:
        episodes_interval(np.zeros((2, 2)))
    with REFUSED:
        gaussian_kernel(torch.zeros(3))
    with REFUSED:
        Observation(torch.zeros(2, 3, dtype=torch.int64), {})


@type_checker.checked
def joined(x: Float[Tensor, "N D"], y: Float[Tensor, "M D"]) -> Float[Tensor, "N+M D"]:
    return torch.cat([x, y])[: len(x) + 3]


def test_an_axis_is_the_same_in_all_arguments_and_in_the_result():
    assert joined(torch.zeros(2, 4), torch.zeros(3, 4)).shape == (5, 4)
    assert joined(torch.zeros(1, 2), torch.zeros(3, 2)).shape == (4, 2)
    with REFUSED:
        joined(torch.zeros(2, 4), torch.zeros(3, 5))
    with REFUSED:
        joined(torch.zeros(2, 4), torch.zeros(4, 4))
    with REFUSED:
        joined(torch.zeros(2, 4), torch.zeros(3, 4, dtype=torch.int64))


@type_checker.checked
@dataclass(frozen=True)
class Table:
    values: Float[Tensor, "N D"]
    steps: "Int[Tensor, ' N'] | None" = None
    names: "list[Unknown]" = ()

    @property
    @type_checker.checked
    def mean(self) -> Float[Tensor, " D"]:
        return self.values.mean(1 if self.values.shape[1] == 3 else 0, keepdim=len(self.values) > 4)

    @classmethod
    @type_checker.checked
    def of(cls, values: Float[Tensor, "N D"]) -> "Table":
        return cls(values)

    @type_checker.checked
    def rows(self, weights: Float[Tensor, " D"]) -> Iterator[Float[Tensor, ""]]:
        for row in self.values:
            yield row @ weights


def test_dataclasses_and_their_methods_are_checked():
    table = Table(torch.zeros(4, 2), torch.arange(4))
    assert table.mean.shape == (2,)
    assert len(list(table.rows(torch.zeros(2)))) == 4
    with REFUSED:
        Table(torch.zeros(4, 2), torch.arange(3))
    with REFUSED:
        Table(torch.zeros(4))
    with REFUSED:
        Table.of(torch.zeros(4))
    with REFUSED:
        _ = Table(torch.zeros(5, 2)).mean
    with REFUSED:
        list(table.rows(torch.zeros(1, 2)))


def test_what_speaks_of_no_array_is_left_as_it_is():
    def plain(value: int, other: "Table") -> str:
        return f"{value}{other}"

    assert type_checker.checked(plain) is plain
