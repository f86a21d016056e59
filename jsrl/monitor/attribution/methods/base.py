"""What all methods of attribution share: their options, their registry, and what they give.

Shapes: N rows, O columns of a row, K outputs of the network.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.registry import KindOptions, Registry


@dataclass
class MethodOptions(KindOptions):
    """What every method has."""


@dataclass(frozen=True)
class Attribution:
    """What each column contributes to one output of the network in each row.

    Args:
        columns: the contributions, in the unit of the output.
        output: the output itself.
        rest: what the method gives to no column: the output at the baseline, or biases.
        biases: of the rest what each layer's biases contribute, for methods that know it.
    """

    columns: Float[Tensor, "N O"]
    output: Float[Tensor, " N"]
    rest: Float[Tensor, " N"]
    biases: Mapping[str, Float[Tensor, " N"]] = field(default_factory=dict)

    @property
    def residual(self) -> Float[Tensor, " N"]:
        """The output less all contributions: 0 where the method is complete."""
        return self.output - self.columns.sum(1) - self.rest


class Method(Protocol):
    """Says what columns contribute."""

    complete: ClassVar[bool]
    """Whether the contributions and the rest add up to the output."""

    def attribute(
        self,
        network: nn.Module,
        rows: Float[Tensor, "N O"],
        targets: Int[Tensor, " N"],
        baseline: Float[Tensor, " O"],
    ) -> Attribution:
        """The contributions of the columns.

        Args:
            network: maps rows ``[N, O]`` to outputs ``[N, K]``, each row by itself; it is not
                changed.
            rows: of the network's floating-point type.
            targets: which of the K outputs is explained in each row.
            baseline: the row that contributions are measured from, for methods that have one.

        Raises:
            UserError: if the method does not fit the network.
        """
        ...


methods: Registry[Callable[[Any], Method]] = Registry("method", MethodOptions)
"""The kinds of ``method=…``."""


def make_method(method: str | Mapping[str, Any] | MethodOptions) -> Method:
    """The method of a name, of a mapping with ``kind`` and options, or of options.

    Raises:
        UserError: if there is none of that name, or an option is not its own or out of range.
    """
    options: Any = method
    if not isinstance(method, MethodOptions):
        given = {"kind": method} if isinstance(method, str) else dict(method)
        if "kind" not in given:
            raise UserError(f"method={given} must have the name of a method as its kind")
        kind = methods[given["kind"]]
        try:
            options = kind.options(**given)
        except TypeError:
            own = ", ".join(sorted(vars(kind.options(kind=kind.name))))
            raise UserError(
                f"method={given}: {kind.name} takes {own}; leave out the rest"
            ) from None
    options.check()
    made: Method = methods.build(options)
    return made


def chosen(outputs: Float[Tensor, "N K"], targets: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """The output that is explained in each row."""
    return outputs.gather(1, targets[:, None])[:, 0]


def gradient(
    network: nn.Module, rows: Float[Tensor, "N O"], targets: Int[Tensor, " N"]
) -> tuple[Float[Tensor, "N O"], Float[Tensor, " N"]]:
    """The gradient of the explained output by the columns, and the output.

    Raises:
        UserError: if the network's answers cannot be differentiated.
    """
    with torch.inference_mode(False), torch.enable_grad():
        rows = rows.clone().requires_grad_(True)
        output = chosen(network(rows), targets)
        if not output.requires_grad:
            raise UserError(
                f"the answers of {type(network).__name__} cannot be differentiated by its inputs; "
                "method=occlusion needs no gradient"
            )
        (slope,) = torch.autograd.grad(output.sum(), rows)
    return slope, output.detach()
