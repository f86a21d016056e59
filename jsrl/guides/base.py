"""What all guides share: their view of the environment, and the guard on their answers."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from jsrl.errors import UserError
from jsrl.seeding import Streams
from jsrl.types import EnvSpec, Observation

TOLERANCE = 1e-4
"""How far outside the space, in units of half its range, rounding may carry an action."""

Numbers = float | Sequence[float]


@dataclass(frozen=True)
class GuideView:
    """How a guide sees observations and in which range it answers, as plain values.

    A guide was made elsewhere, perhaps for another observation and another action scale; it keeps
    its own, whatever the learner uses.

    Args:
        observation: what to select from the flat observation, in this order: names of parts of
            ``EnvSpec.layout``, or column indices; None for all of it. O' columns result.
        mean: the guide's own normaliser, after selection: one number or ``[O']``; None for 0.
        std: the same, for the standard deviation; None for 1.
        action_low: lower bound of the guide's own actions, one number or ``[A]``.
        action_high: upper bound. The range is mapped linearly to [-1, 1].
    """

    observation: tuple[str | int, ...] | None = None
    mean: Numbers | None = None
    std: Numbers | None = None
    action_low: Numbers = -1.0
    action_high: Numbers = 1.0

    def bind(self, spec: EnvSpec) -> "BoundView":
        """This view of one environment.

        Raises:
            UserError: if a name, an index, a size or a range does not fit; it names the key.
        """
        columns = None
        if self.observation is not None:
            columns = [c for entry in self.observation for c in _columns(entry, spec)]
            if not columns:
                raise UserError("guide.observation is empty; name at least one part, or leave null")
        size = spec.observation_size if columns is None else len(columns)
        mean = _vector("guide.mean", 0.0 if self.mean is None else self.mean, size)
        std = _vector("guide.std", 1.0 if self.std is None else self.std, size)
        low = _vector("guide.action_low", self.action_low, spec.action_size)
        high = _vector("guide.action_high", self.action_high, spec.action_size)
        if not (std > 0).all():
            raise UserError(f"guide.std={self.std!r} must be positive in every column")
        if not (low < high).all():
            raise UserError(
                f"guide.action_low={self.action_low!r} must be below "
                f"guide.action_high={self.action_high!r} in every action"
            )
        return BoundView(
            columns=None if columns is None else torch.tensor(columns),
            mean=None if self.mean is None and self.std is None else mean,
            std=None if self.mean is None and self.std is None else std,
            low=low,
            high=high,
            size=size,
        )


@dataclass(frozen=True)
class BoundView:
    """A ``GuideView`` of one environment, checked: O' = ``size`` columns in, A actions out."""

    columns: Tensor | None
    mean: Tensor | None
    std: Tensor | None
    low: Float[Tensor, " A"]
    high: Float[Tensor, " A"]
    size: int

    def observe(self, obs: Float[Tensor, "*N O"]) -> Float[Tensor, "*N O2"]:
        """Observations as the guide knows them: selected, then normalised."""
        if self.columns is not None:
            obs = obs.index_select(-1, self.columns.to(obs.device))
        if self.mean is not None and self.std is not None:
            obs = (obs - self.mean.to(obs.device)) / self.std.to(obs.device)
        return obs

    def respond(
        self,
        answers: Float[Tensor, "*N A"],
        name: str,
        mask: Bool[Tensor, "*N"] | None = None,
    ) -> Float[Tensor, "*N A"]:
        """The guide's answers, checked, mapped to [-1, 1] and clipped; 0 outside of ``mask``.

        Only what rounding carried outside by less than ``TOLERANCE`` is clipped.

        Raises:
            UserError: if an answer in ``mask`` is not finite, or outside the guide's range.
        """
        low, high = self.low.to(answers.device), self.high.to(answers.device)
        # Written so that the range [-1, 1] is mapped to itself exactly.
        actions = answers * (2 / (high - low)) - (high + low) / (high - low)
        if mask is not None:
            actions = torch.where(mask.unsqueeze(-1), actions, 0.0)
        # One comparison for both faults: it is false for NaN too.
        good = actions.abs() <= 1 + TOLERANCE
        if not good.all():
            self._refuse(answers, good, name)
        return actions.clamp(-1, 1)

    def _refuse(self, answers: Tensor, good: Tensor, name: str) -> None:
        position = tuple(int(i) for i in (~good).nonzero()[0])
        value, column = float(answers[position]), position[-1]
        low, high = float(self.low[column]), float(self.high[column])
        if not math.isfinite(value):
            raise UserError(
                f"guide {name} returned {value} for action {column}; expected finite numbers in "
                f"[{low:g}, {high:g}]; see whether it needs guide.mean and guide.std"
            )
        raise UserError(
            f"guide {name} returned {value:g} for action {column}, outside of "
            f"[{low:g}, {high:g}]; set guide.action_low and guide.action_high to the range in "
            "which it answers, or clip in the guide"
        )


class RowPolicy(Protocol):
    """What ``ForeignGuide`` wraps: actions for a NumPy batch of observations of one seed.

    Two optional attributes: ``stochastic = True`` asks for a generator; ``stateful = True``, for a
    policy with memory, has it called with the extra keyword ``rows`` (int64 ``[n]``, the identity
    of each row, the same for all steps of an episode) and requires ``reset(rows=...)``, called
    when new episodes begin in those rows.
    """

    def __call__(
        self,
        observations: Float[np.ndarray, "n O2"],
        seed_index: int,
        generator: np.random.Generator | None,
    ) -> Any:
        """Actions ``[n, A]``, in the range of the guide's view. The generator is fresh at every
        call, and None where the mode is wanted or the policy is not ``stochastic``."""
        ...


class ForeignGuide:
    """A guide around anything that maps a NumPy batch ``[n, O']`` to actions ``[n, A]``.

    It is called once for each seed that has rows in the mask, with these rows alone, so that what
    one seed gets depends neither on the others nor on rows it does not act for. A seed without
    rows causes no call.

    Args:
        act_rows: see ``RowPolicy``.
        view: the guide's observations and actions.
        spec: the environment's.
        num_seeds: S.
        name: what messages call this guide.
        fingerprint: a hash of what ``act_rows`` is; the view is added to it.

    Raises:
        UserError: if the view does not fit the environment, or a policy with memory has no reset.
    """

    def __init__(
        self,
        act_rows: RowPolicy,
        view: GuideView,
        spec: EnvSpec,
        num_seeds: int,
        name: str,
        fingerprint: str,
    ) -> None:
        self.act_rows = act_rows
        self.view = view.bind(spec)
        self.num_seeds = num_seeds
        self.action_size = spec.action_size
        self.name = name
        self.fingerprint = combine(fingerprint, view)
        self.stochastic = bool(getattr(act_rows, "stochastic", False))
        self.stateful = bool(getattr(act_rows, "stateful", False))
        if self.stateful and not callable(getattr(act_rows, "reset", None)):
            raise UserError(f"guide {name} says stateful = True; give it a method reset(rows)")

    def act(
        self, obs: Observation, streams: Streams | None, mask: Bool[Tensor, "S E"]
    ) -> Float[Tensor, "S E A"]:
        """Actions in [-1, 1] for the rows in ``mask``; see ``Guide.act``."""
        actions = torch.zeros(*obs.shape[:2], self.action_size)
        device = obs.device
        obs, rows_of = obs.detach().cpu(), mask.cpu()
        for seed_index in range(self.num_seeds):
            rows = rows_of[seed_index]
            if not rows.any():
                continue
            observed = self.view.observe(obs[seed_index][rows]).numpy()
            generator = None
            if self.stochastic and streams is not None:
                own = streams.select(seed_index)
                # One integer a call, so that nothing but the stream needs saving for a resume.
                generator = np.random.default_rng(int(own.integers("guide", 2**63 - 1, ())[0]))
            extra = {"rows": self._ids(rows_of, seed_index)} if self.stateful else {}
            answers = self.act_rows(observed, seed_index, generator, **extra)
            answers = self._as_tensor(answers, len(observed))
            actions[seed_index, rows] = self.view.respond(answers, self.name)
        return actions.to(device)

    def reset(self, mask: Bool[Tensor, "S E"]) -> None:
        """New episodes begin in the rows of ``mask``: only a policy with memory is told."""
        if not self.stateful:
            return
        rows_of = mask.cpu()
        for seed_index in range(self.num_seeds):
            if rows_of[seed_index].any():
                reset: Any = getattr(self.act_rows, "reset", None)
                reset(rows=self._ids(rows_of, seed_index))

    def try_shapes(self) -> None:
        """Call a deterministic policy on zeros, to see early that it takes and returns the sizes.

        Raises:
            UserError: if it does not.
        """
        # Three rows and one: a batch size that was baked in on export fails on one of them.
        for rows in (3, 1):
            zeros = np.zeros((rows, self.view.size), dtype=np.float32)
            self._as_tensor(self.act_rows(zeros, 0, None), rows)

    @staticmethod
    def _ids(rows_of: Tensor, seed_index: int) -> np.ndarray:
        own = rows_of[seed_index].nonzero().squeeze(-1).numpy()
        ids: np.ndarray = own + seed_index * rows_of.shape[1]
        return ids

    def _as_tensor(self, answers: Any, rows: int) -> Tensor:
        """The guide's answers as float32 ``[rows, A]``."""
        if isinstance(answers, Tensor):
            answers = answers.detach().cpu().numpy()
        expected = f"expected an array of shape ({rows}, {self.action_size})"
        if isinstance(answers, tuple):
            raise UserError(
                f"guide {self.name} returned a tuple of {len(answers)}; {expected}; a policy whose "
                "predict returns (actions, state), as in Stable-Baselines3, needs a wrapper, "
                "as in scripts/examples/guide_stable_baselines3.py"
            )
        try:
            with np.errstate(over="ignore"):  # too large for float32: refused as not finite
                array = np.array(answers, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"guide {self.name} returned {type(answers).__name__}: {error}; {expected}"
            ) from error
        if array.shape != (rows, self.action_size):
            raise UserError(
                f"guide {self.name} returned an array of shape {array.shape}; {expected}"
            )
        return torch.from_numpy(array)


def combine(*parts: Any) -> str:
    """SHA-256 over plain values, tensors and bytes: a fingerprint."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            array = part.detach().cpu().contiguous().numpy()
            digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
        elif isinstance(part, bytes):
            digest.update(part)
        else:
            digest.update(repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _columns(entry: str | int, spec: EnvSpec) -> list[int]:
    if isinstance(entry, str):
        for name, start, stop in spec.layout:
            if name == entry:
                return list(range(start, stop))
        names = [name for name, _, _ in spec.layout]
        raise UserError(f"guide.observation: {spec.id} has no part {entry!r}; it has {names}")
    if not isinstance(entry, int) or not 0 <= entry < spec.observation_size:
        raise UserError(
            f"guide.observation: {entry!r} is none of the {spec.observation_size} columns of "
            f"{spec.id}; give whole numbers from 0, or names of parts"
        )
    return [entry]


def _vector(key: str, value: Numbers, size: int) -> Float[Tensor, " N"]:
    numbers = [value] * size if isinstance(value, int | float) else list(value)
    if len(numbers) != size:
        raise UserError(f"{key} has {len(numbers)} numbers; expected {size}, or a single one")
    vector = torch.tensor(numbers, dtype=torch.float32)
    if not vector.isfinite().all():
        raise UserError(f"{key}={value!r} must be finite")
    return vector
