"""How a guide sees the environment: its columns, its normaliser, the units of its actions."""

import math
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from jsrl.core.conversions import Numbers, action_line, is_unit_range, show_range
from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.specs import BoxActions, DiscreteActions, EnvSpec, ObservationSpec

TOLERANCE = 1e-4
"""How far outside the space, in units of half its range, rounding may carry an action."""


@dataclass(frozen=True)
class ActionRange:
    """A range in which a guide answers, and where it is known from.

    Args:
        low: lower bound, one number or ``[A]``.
        high: upper bound, above it.
        source: for messages: ``the bounds of Pendulum-v1``.
        prefix: of the names of the bounds in messages, ``guide.`` for the configuration's keys.
    """

    low: Numbers
    high: Numbers
    source: str
    prefix: str = ""

    def bounds(self, spec: EnvSpec) -> tuple[Float[Tensor, " A"], Float[Tensor, " A"]]:
        """Both bounds in float64.

        Raises:
            UserError: if their number is not that of the environment's actions, one is not finite,
                or the lower is not below the upper one.
        """
        low = _vector(f"{self.prefix}action_low", self.low, spec.actions.size)
        high = _vector(f"{self.prefix}action_high", self.high, spec.actions.size)
        if not (low < high).all():
            raise UserError(
                f"{self.prefix}action_low={self.low!r} must be below "
                f"{self.prefix}action_high={self.high!r} in every action ({self.source})"
            )
        return low, high

    def of_dimension(self, column: int) -> str:
        """The range of one dimension as text."""
        low, high = np.ravel(self.low), np.ravel(self.high)
        return show_range(float(low[column % len(low)]), float(high[column % len(high)]))


POLICY_RANGE = ActionRange(-1.0, 1.0, "the range of policies")
"""Policies of this package, and whatever was made for it, answer in [-1, 1]."""


def environment_range(spec: EnvSpec) -> ActionRange:
    """The environment's own bounds: what a guide from elsewhere answers in."""
    if isinstance(spec.actions, DiscreteActions):
        return ActionRange(-1.0, 1.0, f"the choices of {spec.id}")
    return ActionRange(spec.box.low, spec.box.high, f"the bounds of {spec.id}")


@runtime_checkable
class Viewed(Protocol):
    """A guide that sees and answers through a view."""

    name: str
    view: "BoundView"


@runtime_checkable
class TellsLines(Protocol):
    """A guide that has more to tell before a run begins."""

    def lines(self) -> list[str]:
        """What it is, and what was converted, one line each."""
        ...


def guide_lines(guide: object) -> list[str]:
    """What is to be told of a guide when a run begins: its conversions, and what it says itself."""
    line = guide_line(guide)
    own = guide.lines() if isinstance(guide, TellsLines) else []
    return [*own, *([] if line is None else [line])]


def guide_line(guide: object) -> str | None:
    """How a guide's actions become the environment's, or None where nothing is converted."""
    return guide.view.action_line(guide.name) if isinstance(guide, Viewed) else None


@dataclass(frozen=True)
class GuideView:
    """How a guide sees observations and in which range it answers, as plain values.

    A guide was made elsewhere, perhaps for another observation and another action scale; it keeps
    its own, whatever the learner uses.

    Args:
        observation: what to select from the observation, in this order: names of its parts,
            images among them, or columns of the vector; None for all of it. O' columns result.
        mean: the guide's own normaliser, after selection: one number or ``[O']``; None for 0.
        std: the same, for the standard deviation; None for 1.
        action_low: lower bound of the guide's own actions, one number or ``[A]``, or the number of
            its first choice; None for what its kind answers in, see ``bind``.
        action_high: upper bound, or the number of its last choice; None where the lower is. The
            range is mapped linearly to the environment's.
    """

    observation: tuple[str | int, ...] | None = None
    mean: Numbers | None = None
    std: Numbers | None = None
    action_low: Numbers | None = None
    action_high: Numbers | None = None

    def bind(self, spec: EnvSpec, answers_in: ActionRange = POLICY_RANGE) -> "BoundView":
        """This view of one environment.

        Args:
            spec: of the environment.
            answers_in: the range in which guides of this kind answer, where this view says none.

        Raises:
            UserError: if a name, an index, a size or a range does not fit; it names the key.
        """
        columns, images = None, spec.observation.image_shapes
        if self.observation is not None:
            columns = [c for entry in self.observation for c in _columns(entry, spec)]
            images = {n: shape for n, shape in images.items() if n in self.observation}
            if not columns and not images:
                raise UserError("guide.observation is empty; name at least one part, or leave null")
        size = spec.observation.size if columns is None else len(columns)
        mean = _vector("guide.mean", 0.0 if self.mean is None else self.mean, size).float()
        std = _vector("guide.std", 1.0 if self.std is None else self.std, size).float()
        if not (std > 0).all():
            raise UserError(f"guide.std={self.std!r} must be positive in every column")
        own = self._range(answers_in)
        scale = offset = None
        first_choice = 0
        if isinstance(spec.actions, BoxActions):
            low, high = own.bounds(spec)
            scale, offset = (2 / (high - low)).float(), ((high + low) / (high - low)).float()
        elif self.action_low is not None:
            first_choice = self._first_choice(spec)
        elif answers_in is not POLICY_RANGE:
            # Policies of this package choose from 0; what is from elsewhere, as the environment.
            first_choice = spec.actions.start
        return BoundView(
            columns=None if columns is None else torch.tensor(columns, dtype=torch.int64),
            images=images,
            mean=None if self.mean is None and self.std is None else mean,
            std=None if self.mean is None and self.std is None else std,
            scale=scale,
            offset=offset,
            first_choice=first_choice,
            answers_in=own,
            size=size,
            values=replace(self, action_low=own.low, action_high=own.high),
            spec=spec,
        )

    def _first_choice(self, spec: EnvSpec) -> int:
        """What the guide calls its first choice, of as many as the environment has."""
        low, high, count = self.action_low, self.action_high, spec.actions.size
        numbers = [n for n in (low, high) if isinstance(n, int | float) and float(n).is_integer()]
        if len(numbers) != 2 or numbers[1] - numbers[0] != count - 1:
            raise UserError(
                f"guide.action_low={low!r} and guide.action_high={high!r} are not the first and "
                f"the last of the {count} choices that {spec.id} takes; give what the guide calls "
                f"them, such as 0 and {count - 1}, or leave both out"
            )
        return int(numbers[0])

    def _range(self, answers_in: ActionRange) -> ActionRange:
        if self.action_low is None and self.action_high is None:
            # One way to write it, so that the same range has the same fingerprint.
            unit = is_unit_range(answers_in.low, answers_in.high)
            if unit and answers_in is not POLICY_RANGE:
                return replace(answers_in, low=-1.0, high=1.0)
            return answers_in
        if self.action_low is None or self.action_high is None:
            given, absent = ("low", "high") if self.action_high is None else ("high", "low")
            value = self.action_low if self.action_high is None else self.action_high
            raise UserError(
                f"guide.action_{given}={value!r} is set without guide.action_{absent}; set both, "
                "or none of them"
            )
        return ActionRange(
            self.action_low, self.action_high, "guide.action_low and guide.action_high", "guide."
        )


@dataclass(frozen=True)
class BoundView:
    """A ``GuideView`` of one environment, checked: O' = ``size`` columns in, A actions out.

    Args:
        columns: those of the vector that the guide sees; None for all.
        images: the shapes of those that it sees, by name.
        mean: its normaliser; None for none.
        std: the same.
        scale: 2/(high - low) of the range in which it answers; None where it chooses.
        offset: (high + low)/(high - low); None where it chooses.
        first_choice: what it calls the first of its choices, if it chooses.
        answers_in: that range.
        size: O'.
        values: the view with nothing left to its kind: what a fingerprint is taken of.
        spec: of the environment.
    """

    columns: Tensor | None
    images: dict[str, tuple[int, int, int]]
    mean: Tensor | None
    std: Tensor | None
    scale: Float[Tensor, " A"] | None
    offset: Float[Tensor, " A"] | None
    first_choice: int
    answers_in: ActionRange
    size: int
    values: GuideView
    spec: EnvSpec

    def action_line(self, name: str) -> str | None:
        """How the actions of guide ``name`` become those of the environment, for a run's start."""
        own, actions = self.answers_in, self.spec.actions
        if isinstance(actions, DiscreteActions):
            if own.prefix == "" or self.first_choice == actions.start:
                return None
            return (
                f"actions: guide {name} chooses from {self.first_choice} ({own.source}), which "
                f"{self.spec.id} numbers from {actions.start}"
            )
        return action_line(f"guide {name}", own.low, own.high, own.source, self.spec)

    @property
    def keeps_actions(self) -> bool:
        """Whether answers are taken as they are: they are in [-1, 1]."""
        return is_unit_range(self.answers_in.low, self.answers_in.high)

    def observe(self, obs: Observation) -> Observation:
        """Observations as the guide knows them: selected, then normalised."""
        vector = obs.vector
        if self.columns is not None:
            vector = vector.index_select(-1, self.columns.to(vector.device))
        if self.mean is not None and self.std is not None:
            vector = (vector - self.mean.to(vector.device)) / self.std.to(vector.device)
        return Observation(vector, {name: obs.images[name] for name in self.images})

    def require_whole_parts(self, name: str) -> None:
        """Raise UserError unless what is seen can be given as the environment gives it."""
        numbers = [entry for entry in self.values.observation or () if not isinstance(entry, str)]
        if numbers:
            raise UserError(
                f"guide.observation={list(self.values.observation or ())} names columns, but guide "
                f"{name} sees images, and is given whole parts as {self.spec.id} gives them; name "
                "parts only"
            )
        if self.mean is not None and any(part.counts for part in self.seen_spec().vector):
            raise UserError(
                f"guide.mean and guide.std would change numbers that stand for choices, which "
                f"guide {name} is given as {self.spec.id} gives them; normalise in the guide, and "
                "leave both out"
            )

    def seen_spec(self) -> ObservationSpec:
        """What the guide sees, where that is all of the observation or whole parts of it."""
        own, chosen = self.spec.observation, self.values.observation
        if chosen is None:
            return own
        parts = {part.name: part for part in own.vector}
        return ObservationSpec(
            tuple(parts[name] for name in chosen if name in parts),
            tuple(image for image in own.images if image.name in self.images),
        )

    def respond(
        self,
        answers: Shaped[Tensor, "*N_A"],
        name: str,
        mask: Bool[Tensor, "*N"] | None = None,
    ) -> Shaped[Tensor, "*N_A"]:
        """The guide's answers, checked, mapped to [-1, 1] and clipped; 0 outside of ``mask``.

        Choices are numbered from 0 then.

        Only what rounding carried outside by less than ``TOLERANCE`` is clipped.

        Raises:
            UserError: if an answer in ``mask`` is not finite, or outside the guide's range, or no
                choice that the environment has.
        """
        if self.scale is None or self.offset is None:
            return self._chosen(answers, name, mask)
        # Written so that the range [-1, 1] is mapped to itself exactly.
        actions = answers * self.scale.to(answers.device) - self.offset.to(answers.device)
        if mask is not None:
            actions = torch.where(mask.unsqueeze(-1), actions, 0.0)
        # One comparison for both faults: it is false for NaN too.
        good = actions.abs() <= 1 + TOLERANCE
        if not good.all():
            self._refuse(answers, good, name)
        return actions.clamp(-1, 1)

    def answers(self, actions: Shaped[Tensor, "*N_A"]) -> Shaped[Tensor, "*N_A"]:
        """What the guide itself calls these actions: ``respond`` turned round."""
        if self.scale is None or self.offset is None:
            return actions + self.first_choice
        device = actions.device
        return (actions + self.offset.to(device)) / self.scale.to(device)

    def _chosen(self, answers: Tensor, name: str, mask: Tensor | None) -> Tensor:
        """Choices from 0, as policies give them."""
        actions = self.spec.actions
        assert isinstance(actions, DiscreteActions)
        start = self.first_choice
        whole = answers.round()
        choices = whole - start
        good = (whole == answers) & (choices >= 0) & (choices < actions.n)
        if mask is not None:
            good |= ~mask
        if not good.all():
            value = float(answers[tuple(int(i) for i in (~good).nonzero()[0])])
            raise UserError(
                f"guide {name} chose {value:g}; expected a whole number from {start} to "
                f"{start + actions.n - 1}, the choices of {self.spec.id}; one that numbers them "
                "otherwise, as a file exported with units=normalised does from 0, needs "
                f"guide.action_low=0 and guide.action_high={actions.n - 1}"
            )
        choices = choices.long()
        return choices if mask is None else torch.where(mask, choices, 0)

    def _refuse(self, answers: Tensor, good: Tensor, name: str) -> None:
        position = tuple(int(i) for i in (~good).nonzero()[0])
        value, column = float(answers[position]), position[-1]
        expected = self.answers_in.of_dimension(column)
        if not math.isfinite(value):
            raise UserError(
                f"guide {name} returned {value} for action {column}; expected finite numbers in "
                f"{expected}; see whether it needs guide.mean and guide.std"
            )
        raise UserError(
            f"guide {name} returned {value:g} for action {column}, outside of {expected} "
            f"({self.answers_in.source}); set guide.action_low and guide.action_high to the range "
            "in which it answers, or clip in the guide"
        )


def _columns(entry: str | int, spec: EnvSpec) -> list[int]:
    if isinstance(entry, str):
        for name, start, stop in spec.observation.layout:
            if name == entry:
                return list(range(start, stop))
        if entry in spec.observation.image_shapes:
            return []
        names = [part.name for part in spec.observation.parts]
        raise UserError(f"guide.observation: {spec.id} has no part {entry!r}; it has {names}")
    if not isinstance(entry, int) or not 0 <= entry < spec.observation.size:
        raise UserError(
            f"guide.observation: {entry!r} is none of the {spec.observation.size} columns of "
            f"{spec.id}; give whole numbers from 0, or names of parts"
        )
    return [entry]


def _vector(key: str, value: Numbers, size: int) -> Float[Tensor, " N"]:
    if isinstance(value, str):
        raise UserError(f"{key}={value!r} is neither a number nor a list of them")
    numbers = [value] * size if isinstance(value, int | float) else list(value)
    if len(numbers) != size:
        raise UserError(f"{key} has {len(numbers)} numbers; expected {size}, or a single one")
    try:
        vector = torch.tensor(numbers, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{key}={value!r} is neither a number nor a list of them") from error
    if not vector.isfinite().all():
        raise UserError(f"{key}={value!r} must be finite")
    return vector
