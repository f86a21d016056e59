"""Policies in the units of their environment: raw observations in, actions that ``step`` takes out.

What is needed of the environment is in every checkpoint, so that none has to be made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from numpy.typing import NDArray
from torch import Tensor, nn

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation, columns_of, image_of
from jsrl.core.protocols import SavablePolicy, SeesImages
from jsrl.core.specs import (
    BoxActions,
    DiscreteActions,
    EnvSpec,
    ImagePart,
    ObservationSpec,
    VectorPart,
    described_actions,
)
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
class ChoiceUnits:
    """The environment's choices, of which policies give the place from 0 to n - 1.

    Args:
        n: how many there are.
        start: what the environment calls the first one.
    """

    n: int
    start: int

    def apply(self, actions: Int[NDArray[np.int64], " n"]) -> NDArray[np.int64]:
        """Choices as the environment numbers them."""
        return actions + self.start


Units = ActionUnits | ChoiceUnits


@dataclass(frozen=True)
class Deployment:
    """What a policy has to know of its environment to act there.

    Args:
        env_id: its name.
        observation: what it observes.
        actions: what it takes.
    """

    env_id: str
    observation: ObservationSpec
    actions: Units

    @classmethod
    def of(cls, environment: Mapping[str, Any]) -> "Deployment":
        """From the entry ``environment`` of a checkpoint.

        Raises:
            UserError: if it lacks the bounds of actions.
        """
        env_id = str(environment.get("id"))
        if "actions" in environment:
            actions = described_actions(environment["actions"])
            units: Units = (
                ChoiceUnits(actions.n, actions.start)
                if isinstance(actions, DiscreteActions)
                else ActionUnits(actions.low, actions.high, actions.shape)
            )
            return cls(env_id, ObservationSpec.described(environment["observation"]), units)
        return cls(env_id, _former_observation(environment), _former_units(environment))

    def read(self, observation: Any) -> tuple[Observation, bool]:
        """Observations as policies see them, ``[n]``, and whether it was a single one.

        Args:
            observation: an array or tensor, one observation or a batch, or a dictionary or tuple of
                them; numbers of any real dtype, images of bytes. Without images a dictionary may
                also come flat, in the order of the spec.

        Raises:
            UserError: if a key is missing or unknown, a size is wrong, or a number is not finite.
        """
        spec = self.observation
        parts = spec.parts
        nested = any(part.path for part in parts)
        if nested and not spec.images and not isinstance(observation, Mapping | tuple):
            several = len(parts) > 1 or spec.vector[0].counts
            flat = VectorPart((), (spec.size,)) if several else spec.vector[0]
            rows, single = _rows(flat, observation, self.env_id)
            self._require_finite(rows)
            return Observation(torch.from_numpy(rows)), single
        if isinstance(observation, Mapping):
            observation = self._known(observation)
        read = {
            part.name: _read(part, _entry(part, observation, self.env_id), self.env_id)
            for part in parts
        }
        counts = {(len(rows), single) for rows, single in read.values()}
        if len(counts) > 1:
            found = {name: len(rows) for name, (rows, _) in read.items()}
            raise UserError(
                f"the parts of the observation differ in how many there are, {found}; give one "
                "observation, or the same number of rows in every part"
            )
        ((count, single),) = counts
        columns = [read[part.name][0] for part in spec.vector]
        vector = np.concatenate(columns, 1) if columns else np.zeros((count, 0), np.float32)
        self._require_finite(vector)
        images = {part.name: torch.from_numpy(read[part.name][0]) for part in spec.images}
        return Observation(torch.from_numpy(vector), images), single

    def _known(self, observation: Mapping[str, Any]) -> Any:
        """The dictionary, or what it holds where the environment observes no dictionary."""
        parts = self.observation.parts
        names = list(dict.fromkeys(part.path[0] if part.path else part.name for part in parts))
        missing = [name for name in names if name not in observation]
        unknown = [name for name in observation if name not in names]
        if missing or unknown:
            what = f"lacks {missing}" if missing else f"has {unknown}, which was not trained on"
            raise UserError(f"the observation {what}; {self.env_id} gives a policy {names}")
        return observation if parts[0].path else observation[parts[0].name]

    def _require_finite(self, rows: NDArray[np.float32]) -> None:
        finite = np.isfinite(rows)
        if finite.all():
            return
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        name, start = next((n, a) for n, a, b in self.observation.layout if a <= column < b)
        raise UserError(
            f"observation {row} has {rows[row, column]} as number {column - start} of {name!r}; "
            "expected finite numbers within float32's range"
        )


def spec_values(spec: EnvSpec) -> dict[str, Any]:
    """What a checkpoint keeps of the environment; ``Deployment.of`` reads it."""
    values: dict[str, Any] = {
        "id": spec.id,
        "observation_size": spec.observation.size,
        "action_size": spec.actions.size,
        "layout": [list(part) for part in spec.observation.layout],
        "observation": _lists(spec.observation.describe()),
        "actions": _lists(spec.actions.describe()),
    }
    if isinstance(spec.actions, BoxActions):
        values |= {"action_low": list(spec.box.low), "action_high": list(spec.box.high)}
    return values


def _lists(value: Any) -> Any:
    """Lists in place of tuples, which come back from JSON as lists as well."""
    if isinstance(value, Mapping):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _former_observation(environment: Mapping[str, Any]) -> ObservationSpec:
    """Of a checkpoint of an earlier version: a layout, and shapes if they are not flat."""
    layout = [(str(n), int(a), int(b)) for n, a, b in environment["layout"]]
    shapes = environment.get("observation_shapes") or [[b - a] for _, a, b in layout]
    plain = [name for name, _, _ in layout] == ["observation"]
    return ObservationSpec(
        tuple(
            VectorPart(() if plain else (name,), tuple(shape))
            for (name, _, _), shape in zip(layout, shapes, strict=True)
        )
    )


def _former_units(environment: Mapping[str, Any]) -> ActionUnits:
    low, high = environment.get("action_low"), environment.get("action_high")
    if low is None or high is None or not np.isfinite([*low, *high]).all():
        raise UserError(
            f"the checkpoint says neither in which bounds {environment.get('id')} takes "
            "actions nor their shape, so that actions cannot be given in its units: use "
            "policy.act, or export with units=normalised"
        )
    # Checkpoints of the earliest versions have flat actions only.
    shape = environment.get("action_shape")
    return ActionUnits(list(low), list(high), [len(low)] if shape is None else list(shape))


class DeployedPolicy(nn.Module):
    """A policy of one seed (S = 1) that also acts in the units of its environment.

    ``of`` makes one that is of the policy's own class as well: its layers keep their names, and
    ``act`` is that of all policies, observations ``[1, E]`` to actions in [-1, 1] or choices.
    ``predict`` is what a program that runs the environment calls.
    """

    observation_size: int
    action_size: int
    images: dict[str, tuple[int, ...]]

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
        if not isinstance(policy, SeesImages):
            made.images = {}
        made.load_state_dict(policy.state_dict())
        made._environment = environment
        made._streams = Streams([seed], ("predict",))
        return made.requires_grad_(False)

    def act(
        self, observation: Observation | Float[Tensor, "1 E O"], streams: Streams | None
    ) -> Shaped[Tensor, "1 E *A"]:
        """Actions as policies give them, for observations, or for the vectors of observations."""
        if isinstance(observation, Tensor):
            observation = Observation(observation)
        # The class of the policy comes next, see ``of``.
        own: Any = super()
        actions: Tensor = own.act(observation, streams)
        return actions

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
            The action in the environment's units and shape, float32, or int64 for a choice, with a
            leading axis if the observation had one; a tensor on its device for tensors, else NumPy.
            And ``state``.

        Raises:
            UserError: see ``Deployment.read`` and ``Deployment.of``; or if the policy sees a part
                of the observation only.
        """
        if self._environment is None:
            raise UserError("only a policy of jsrl.load_policy has predict; use act(obs, streams)")
        deployment = Deployment.of(self._environment)
        own = self.observation_size
        size = deployment.observation.size
        if own != size:
            raise UserError(
                f"this policy sees {own} of the {size} columns of {deployment.env_id}, and the "
                "checkpoint does not say which: select them, and use act, which answers in [-1, 1]"
            )
        read, single = deployment.read(observation)
        read = read.to(next((p.device for p in self.parameters()), read.device))
        answers = self.act(read[None], None if deterministic else self._streams)[0]
        actions: NDArray[Any] = deployment.actions.apply(answers.cpu().numpy())
        if single:
            actions = np.asarray(actions[0])
        device = _device_of(observation)
        return (actions if device is None else torch.from_numpy(actions).to(device)), state


def _entry(part: VectorPart | ImagePart, observation: Any, env_id: str) -> Any:
    """What a dictionary or tuple, perhaps nested, has for a part."""
    found = observation
    for key in part.path:
        try:
            found = found[key]
        except (KeyError, IndexError, TypeError):
            raise UserError(
                f"the observation lacks {part.name!r}; give what {env_id} observes"
            ) from None
    return found


def _read(part: VectorPart | ImagePart, given: Any, env_id: str) -> tuple[NDArray[Any], bool]:
    """A part's columns ``[n, size]``, or its image ``[n, C, H, W]``; and whether it was one."""
    if isinstance(part, VectorPart) and not part.counts:
        return _rows(part, given, env_id)
    array = _real(part.name, given)
    single = array.shape == part.shape
    if not single and array.shape[1:] != part.shape:
        raise UserError(
            f"the observation's {part.name!r} has shape {list(array.shape)}; {env_id} has "
            f"{[*part.shape]}, with one more leading axis for a batch"
        )
    batch = array[None] if single else array
    leading = (len(batch),)
    if isinstance(part, ImagePart):
        return image_of(part, batch, leading).numpy(), single
    return columns_of(part, batch, leading), single


def _rows(part: VectorPart, given: Any, env_id: str) -> tuple[NDArray[np.float32], bool]:
    """One part of numbers as rows ``[n, size]``, and whether it was a single one."""
    array = _real(part.name, given)
    flat = (part.size,)
    single = array.shape in (part.shape, flat)
    batch = array.ndim > 0 and array.shape[1:] in (part.shape, flat)
    if not single and not batch:
        expected = " or ".join(dict.fromkeys(str([*s]) for s in (part.shape, flat)))
        raise UserError(
            f"the observation's {part.name!r} has shape {list(array.shape)}; {env_id} has "
            f"{expected}, with one more leading axis for a batch"
        )
    with np.errstate(over="ignore"):  # too large for float32: refused as not finite
        rows = array.astype(np.float32).reshape(-1 if single else len(array), part.size)
    return rows, single


def _real(name: str, given: Any) -> NDArray[Any]:
    """An array of real numbers."""
    try:
        array = _as_array(given)
    except (ValueError, TypeError) as error:
        raise UserError(f"the observation's {name!r} is no array: {error}") from error
    if array.dtype.kind not in "fiub":
        raise UserError(
            f"the observation's {name!r} is {type(given).__name__} of dtype {array.dtype}; "
            "expected real numbers in an array, a tensor or a dictionary of them"
        )
    return array


def _as_array(given: Any) -> NDArray[Any]:
    if not isinstance(given, Tensor):
        return np.asarray(given)
    given = given.detach().cpu()
    # NumPy has no bfloat16.
    array: NDArray[Any] = (given.double() if given.is_floating_point() else given).numpy()
    return array


def _device_of(observation: Any) -> torch.device | None:
    """Where the tensors of an observation are; None if there is none."""
    if isinstance(observation, Tensor):
        return observation.device
    if isinstance(observation, Mapping):
        observation = tuple(observation.values())
    devices = map(_device_of, observation if isinstance(observation, tuple) else ())
    return next((device for device in devices if device is not None), None)
