"""Policies in the units of their environment: raw observations in, actions that ``step`` takes out.

What is needed of the environment is in every checkpoint, so that none has to be made.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.protocols import SavablePolicy
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams


@dataclass(frozen=True)
class ActionUnits:
    """The environment's actions: policies act in [-1, 1], which is mapped to them linearly.

    Args:
        low: lower bound of each number of an action, in the order of its flat form.
        high: upper bounds, above the lower ones.
        shape: of one action.
    """

    low: Sequence[float]
    high: Sequence[float]
    shape: Sequence[int]

    def bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Both in float32, rounded inwards: what lies within them lies within the true ones."""
        low, high = (np.array(bound, np.float64) for bound in (self.low, self.high))
        lower, upper = low.astype(np.float32), high.astype(np.float32)
        lower = np.where(lower < low, np.nextafter(lower, np.float32(np.inf)), lower)
        upper = np.where(upper > high, np.nextafter(upper, np.float32(-np.inf)), upper)
        return lower.astype(np.float32), upper.astype(np.float32)

    def apply(self, actions: Float[NDArray[np.float32], "n A"]) -> NDArray[np.float32]:
        """Actions in [-1, 1] in the environment's units and shape, ``[n, *shape]``."""
        lower, upper = self.bounds()
        low, high = (np.array(bound, np.float64) for bound in (self.low, self.high))
        # As the environment does it in training: the bounds -1 and 1 change nothing.
        if not ((low == -1).all() and (high == 1).all()):
            share = 0.5 * (actions.astype(np.float64) + 1.0)
            actions = ((1.0 - share) * low + share * high).astype(np.float32)
        clipped = np.minimum(np.maximum(actions, lower), upper)
        return clipped.reshape(len(actions), *self.shape)


@dataclass(frozen=True)
class Deployment:
    """What a policy has to know of its environment to act there.

    Args:
        env_id: its name.
        layout: name and [start, stop) columns of each part of an observation.
        shapes: of each part as the environment gives it.
        actions: what it takes.
    """

    env_id: str
    layout: tuple[tuple[str, int, int], ...]
    shapes: tuple[tuple[int, ...], ...]
    actions: ActionUnits

    @classmethod
    def of(cls, environment: Mapping[str, Any]) -> "Deployment":
        """From the entry ``environment`` of a checkpoint.

        Raises:
            UserError: if it lacks the bounds of actions.
        """
        layout = tuple((str(n), int(a), int(b)) for n, a, b in environment["layout"])
        low, high = environment.get("action_low"), environment.get("action_high")
        if low is None or high is None or not np.isfinite([*low, *high]).all():
            raise UserError(
                f"the checkpoint says neither in which bounds {environment.get('id')} takes "
                "actions nor their shape, so that actions cannot be given in its units: use "
                "policy.act, or export with units=normalised"
            )
        # Checkpoints of earlier versions have flat observations and actions only.
        shapes = environment.get("observation_shapes") or [[b - a] for _, a, b in layout]
        shape = environment.get("action_shape")
        units = ActionUnits(list(low), list(high), [len(low)] if shape is None else list(shape))
        return cls(str(environment.get("id")), layout, tuple(map(tuple, shapes)), units)

    @property
    def size(self) -> int:
        """O, the number of columns of a flat observation."""
        return self.layout[-1][2]

    def read(self, observation: Any) -> tuple[Float[Tensor, "n O"], bool]:
        """Observations as rows, and whether it was a single one.

        Args:
            observation: an array or tensor of any real dtype, one observation or a batch, or a
                dictionary of them; a dictionary may also come flat, in the order of ``layout``.

        Raises:
            UserError: if a key is missing or unknown, a size is wrong, or a number is not finite.
        """
        if isinstance(observation, Mapping):
            parts = self._parts(observation)
        elif len(self.layout) == 1:
            name, _, stop = self.layout[0]
            parts = [_rows(name, observation, self.shapes[0], stop, self.env_id)]
        else:
            parts = [_rows("observation", observation, (self.size,), self.size, self.env_id)]
        counts = {(len(rows), single) for rows, single in parts}
        if len(counts) > 1:
            found = {
                name: len(rows) for (name, *_), (rows, _) in zip(self.layout, parts, strict=True)
            }
            raise UserError(
                f"the parts of the observation differ in how many there are, {found}; give one "
                "observation, or the same number of rows in every part"
            )
        rows = np.concatenate([rows for rows, _ in parts], axis=1)
        self._require_finite(rows)
        return torch.from_numpy(rows), parts[0][1]

    def _parts(self, observation: Mapping[str, Any]) -> list[tuple[NDArray[np.float32], bool]]:
        names = [name for name, _, _ in self.layout]
        missing = [name for name in names if name not in observation]
        unknown = [name for name in observation if name not in names]
        if missing or unknown:
            what = f"lacks {missing}" if missing else f"has {unknown}, which was not trained on"
            raise UserError(f"the observation {what}; {self.env_id} gives a policy {names}")
        return [
            _rows(name, observation[name], shape, stop - start, self.env_id)
            for (name, start, stop), shape in zip(self.layout, self.shapes, strict=True)
        ]

    def _require_finite(self, rows: NDArray[np.float32]) -> None:
        finite = np.isfinite(rows)
        if finite.all():
            return
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        name, start = next((n, a) for n, a, b in self.layout if a <= column < b)
        raise UserError(
            f"observation {row} has {rows[row, column]} as number {column - start} of {name!r}; "
            "expected finite numbers within float32's range"
        )


def spec_values(spec: EnvSpec) -> dict[str, Any]:
    """What a checkpoint keeps of the environment; ``Deployment.of`` reads it."""
    return {
        "id": spec.id,
        "observation_size": spec.observation_size,
        "action_size": spec.action_size,
        "layout": [list(part) for part in spec.layout],
        "action_low": list(spec.action_low),
        "action_high": list(spec.action_high),
        "action_shape": None if spec.action_shape is None else list(spec.action_shape),
        "observation_shapes": None
        if spec.observation_shapes is None
        else [list(shape) for shape in spec.observation_shapes],
    }


class DeployedPolicy(nn.Module):
    """A policy of one seed (S = 1) that also acts in the units of its environment.

    ``of`` makes one that is of the policy's own class as well: its layers keep their names, and
    ``act`` is that of all policies, flat observations ``[1, E, O]`` to actions in [-1, 1].
    ``predict`` is what a program that runs the environment calls.
    """

    observation_size: int
    action_size: int
    act: Callable[[Tensor, Streams | None], Tensor]

    _environment: Mapping[str, Any] | None = None
    _streams: Streams | None = None

    @classmethod
    def of(
        cls, policy: SavablePolicy, environment: Mapping[str, Any], seed: int
    ) -> "DeployedPolicy":
        """A copy of ``policy``, which is of one seed.

        Args:
            policy: S = 1, a ``torch.nn.Module``.
            environment: the entry of a checkpoint.
            seed: decides what ``predict`` draws.
        """
        own: Any = type(policy)
        kind = type(f"Deployed{own.__name__}", (cls, own), {})
        made: DeployedPolicy = kind(**policy.describe()["arguments"])
        made.load_state_dict(policy.state_dict())
        made._environment = environment
        made._streams = Streams([seed], ("predict",))
        return made.requires_grad_(False)

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        """The action for a raw observation, as ``predict`` of Stable-Baselines3 gives it.

        Args:
            observation: as the environment gives it: one or a batch, NumPy or tensor, an array or
                a dictionary, of any real dtype.
            state: of a policy with memory; this one has none, and hands it back.
            episode_start: not looked at.
            deterministic: the mode; otherwise a sample, drawn from a generator of this object's
                own that begins with the seed: a policy loaded anew repeats its draws.

        Returns:
            The action in the environment's units and shape, float32, with a leading axis if the
            observation had one; a tensor on its device for tensors, else NumPy. And ``state``.

        Raises:
            UserError: see ``Deployment.read`` and ``Deployment.of``; or if the policy sees a part
                of the observation only.
        """
        if self._environment is None:
            raise UserError("only a policy of jsrl.load_policy has predict; use act(obs, streams)")
        deployment = Deployment.of(self._environment)
        own = self.observation_size
        if own != deployment.size:
            raise UserError(
                f"this policy sees {own} of the {deployment.size} columns of {deployment.env_id}, "
                "and the checkpoint does not say which: select them, and use act, which answers "
                "in [-1, 1]"
            )
        rows, single = deployment.read(observation)
        rows = rows.to(next((p.device for p in self.parameters()), rows.device))
        answers = self.act(rows.unsqueeze(0), None if deterministic else self._streams)[0]
        actions = deployment.actions.apply(answers.cpu().numpy())
        if single:
            actions = actions[0]
        device = _device_of(observation)
        return (actions if device is None else torch.from_numpy(actions).to(device)), state


def _rows(
    name: str, given: Any, shape: Sequence[int], size: int, env_id: str
) -> tuple[NDArray[np.float32], bool]:
    """One part as rows ``[n, size]``, and whether it was a single one."""
    try:
        array = _as_array(given)
    except (ValueError, TypeError) as error:
        raise UserError(f"the observation's {name!r} is no array: {error}") from error
    if array.dtype.kind not in "fiub":
        raise UserError(
            f"the observation's {name!r} is {type(given).__name__} of dtype {array.dtype}; "
            "expected real numbers in an array, a tensor or a dictionary of them"
        )
    flat = (size,)
    single = array.shape in (tuple(shape), flat)
    batch = array.ndim > 0 and array.shape[1:] in (tuple(shape), flat)
    if not single and not batch:
        expected = " or ".join(dict.fromkeys(str([*s]) for s in (tuple(shape), flat)))
        raise UserError(
            f"the observation's {name!r} has shape {list(array.shape)}; {env_id} has {expected}, "
            "with one more leading axis for a batch"
        )
    with np.errstate(over="ignore"):  # too large for float32: refused as not finite
        rows = array.astype(np.float32).reshape(-1 if single else len(array), size)
    return rows, single


def _as_array(given: Any) -> NDArray[Any]:
    if not isinstance(given, Tensor):
        return np.asarray(given)
    given = given.detach().cpu()
    # NumPy has no bfloat16.
    array: NDArray[Any] = (given.double() if given.is_floating_point() else given).numpy()
    return array


def _device_of(observation: Any) -> torch.device | None:
    """Where the tensors of an observation are; None if there is none."""
    values = observation.values() if isinstance(observation, Mapping) else [observation]
    return next((value.device for value in values if isinstance(value, Tensor)), None)
