"""What the columns of an observation contribute to a network's answers: ``jsrl.explain``.

Shapes: N rows, O columns of a row, K outputs that are explained.
"""

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.protocols import HasLayersWithoutSeeds, SeesImages
from jsrl.monitor.attribution.methods import MethodOptions, make_method
from jsrl.networks.seed_policy import SeedPolicy

AGREEMENT = 1e-3
"""How far the layers of a policy may be from its answers, by rounding."""


@dataclass(frozen=True)
class Explanation:
    """What each column contributes to each output in each row.

    Args:
        columns: the contributions, in the unit of the outputs.
        outputs: what the network answers: all numbers of an action, or of a policy that chooses
            what it says of its choice alone (K = 1).
        rest: what the method gives to no column: the outputs at the baseline, or biases.
        biases: of the rest what each layer's biases contribute, for methods that know it.
        complete: whether the method promises that contributions and rest add up to the outputs.
    """

    columns: Float[Tensor, "N K O"]
    outputs: Float[Tensor, "N K"]
    rest: Float[Tensor, "N K"]
    biases: Mapping[str, Float[Tensor, "N K"]]
    complete: bool

    @property
    def residual(self) -> Float[Tensor, "N K"]:
        """The outputs less contributions and rest: about 0 where a method is complete."""
        return self.outputs - self.columns.sum(-1) - self.rest

    @property
    def strength(self) -> Float[Tensor, "N O"]:
        """Contributions without their sign, summed over outputs."""
        return self.columns.abs().sum(1)


@dataclass(frozen=True)
class Explainable:
    """A network in double precision, as methods take it.

    Args:
        network: rows ``[N, O]`` to outputs ``[N, K]``.
        chooses: whether the largest of its outputs is what it answers.
    """

    network: nn.Module
    chooses: bool


def explain(
    network: nn.Module,
    rows: Float[Tensor, "N O"] | Float[NDArray[Any], "N O"],
    method: str | Mapping[str, Any] | MethodOptions = "fullgrad",
    *,
    baseline: Float[Tensor, " O"] | Sequence[float] | None = None,
    targets: Int[Tensor, " N"] | Sequence[int] | None = None,
) -> Explanation:
    """What each column of some observations contributes to a network's answers.

    It is computed in double precision on a copy of the network on the CPU, in evaluation mode.

    Args:
        network: a policy of one seed, such as ``jsrl.load_policy`` gives, or any module that maps
            rows ``[N, O]`` to outputs ``[N, K]``.
        rows: the observations, flat and as the environment gives them.
        method: the name of a method, a mapping with its ``kind`` and options, or its options.
        baseline: the observation that contributions are measured from, for methods that have one;
            None for the mean of the rows.
        targets: the one output that is explained in each row; None for all outputs, or for the
            choice of a policy that chooses.

    Raises:
        UserError: if there is no such method, it does not fit the network, the network sees images
            or gives no real numbers, or the sizes do not fit.
    """
    chosen_method = make_method(method)
    values = torch.as_tensor(np.asarray(rows), dtype=torch.float64)
    if values.dim() != 2 or not len(values):
        raise UserError(
            f"rows have the shape {list(values.shape)}; explain takes one row or more, each of the "
            "columns of a flat observation"
        )
    if not bool(values.isfinite().all()):
        raise UserError("rows have numbers that are not finite, of which nothing can be explained")
    start = values.mean(0) if baseline is None else _baseline(baseline, values.shape[1])
    explainable = explainable_network(network, values)
    with torch.no_grad():
        outputs = explainable.network(values)
    _require_outputs(outputs, network, len(values))
    asked = _targets(targets, outputs, explainable.chooses)
    found = [chosen_method.attribute(explainable.network, values, of, start) for of in asked]
    return Explanation(
        torch.stack([one.columns for one in found], 1),
        torch.stack([one.output for one in found], 1),
        torch.stack([one.rest for one in found], 1),
        {name: torch.stack([one.biases[name] for one in found], 1) for name in found[0].biases},
        chosen_method.complete,
    )


def explainable_network(network: nn.Module, rows: Float[Tensor, "N O"]) -> Explainable:
    """The network as methods take it.

    Args:
        network: a policy of one seed, or any module.
        rows: on which the layers of a policy are compared with its answers.

    Raises:
        UserError: if it sees images, gives no real numbers, or has other layers than it acts by.
    """
    require_vector(network)
    if not isinstance(network, SeedPolicy):
        return Explainable(_in_double(copy.deepcopy(network)), chooses=False)
    if network.num_seeds != 1:
        raise UserError(
            f"the policy has {network.num_seeds} seeds; explain one: policy.select(index)"
        )
    size = network.observation_size
    if rows.shape[1] != size:
        raise UserError(f"rows have {rows.shape[1]} columns, and the policy's observations {size}")
    with torch.no_grad():
        answers = network.mode(Observation(rows.float()[None]))[0].cpu()
    chooses = not answers.is_floating_point()
    if not isinstance(network, HasLayersWithoutSeeds):
        if chooses:
            raise UserError(
                f"a {type(network).__name__} chooses, and says nothing of the choices: give it "
                "layers_without_seeds(index), or explain a module that gives a number for each"
            )
        return Explainable(_in_double(network.mode_module(0)), chooses)
    chain = _in_double(nn.Sequential(OrderedDict(network.layers_without_seeds(0))))
    with torch.no_grad():
        said = chain(rows)
    if chooses:
        off = said.amax(1) - said.gather(1, answers.reshape(-1, 1).long())[:, 0]
    else:
        off = (said - answers.reshape(said.shape)).abs().amax(1)
    scale = float(said.abs().max().clamp_min(1.0))
    if float(off.max()) > AGREEMENT * scale:
        raise UserError(
            f"the layers of {type(network).__name__} answer otherwise than the policy, by "
            f"{float(off.max()):.2g}; its layers_without_seeds(index) or head_layers() must give "
            "all that stands between an observation and the action"
        )
    return Explainable(chain, chooses)


def require_vector(network: object) -> None:
    """Refuse a policy that sees images.

    Raises:
        UserError: naming them.
    """
    if isinstance(network, SeesImages) and network.images:
        raise UserError(
            f"the policy sees the images {', '.join(network.images)}; what is explained are the "
            "columns of a vector, and these have pixels: train on the environment's numbers, or "
            "explain the network by a method of its own"
        )


def _in_double(network: nn.Module) -> nn.Module:
    return network.cpu().double().requires_grad_(False).eval()


def _baseline(given: Float[Tensor, " O"] | Sequence[float], columns: int) -> Float[Tensor, " O"]:
    baseline = torch.as_tensor(given, dtype=torch.float64)
    if baseline.shape != (columns,):
        raise UserError(
            f"baseline has the shape {list(baseline.shape)}; it must be one observation, "
            f"{columns} numbers"
        )
    return baseline


def _require_outputs(outputs: object, network: nn.Module, rows: int) -> None:
    if isinstance(outputs, Tensor) and outputs.is_floating_point():
        if outputs.dim() == 2 and len(outputs) == rows:
            return
        shown = f"a tensor of shape {list(outputs.shape)}"
    else:
        shown = f"{outputs.dtype}" if isinstance(outputs, Tensor) else type(outputs).__name__
    raise UserError(
        f"{type(network).__name__} gives {shown} for {rows} rows; explain takes a network that "
        "gives real numbers, one or more for each row"
    )


def _targets(
    given: Int[Tensor, " N"] | Sequence[int] | None, outputs: Float[Tensor, "N K"], chooses: bool
) -> list[Int[Tensor, " N"]]:
    """For each output that is explained, its place in each row."""
    rows, count = outputs.shape
    if given is None:
        if chooses:
            return [outputs.argmax(1)]
        return [torch.full((rows,), place) for place in range(count)]
    targets = torch.as_tensor(given)
    fits = targets.shape == (rows,) and not targets.is_floating_point()
    if not fits or not bool(((targets >= 0) & (targets < count)).all()):
        raise UserError(
            f"targets must name one output for each of {rows} rows, from 0 to {count - 1}"
        )
    return [targets.long()]
