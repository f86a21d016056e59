"""The spaces that a policy from another library was trained on, held against the environment's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation, as_given
from jsrl.core.specs import (
    ActionSpec,
    BoxActions,
    DiscreteActions,
    EnvSpec,
    ImagePart,
    ObservationSpec,
    VectorPart,
)
from jsrl.guides.view import ActionRange, BoundView, GuideView, environment_range


@dataclass(frozen=True)
class GivenAs:
    """How a policy is given observations: in the spaces that it was trained on.

    Args:
        spec: of the observations that it was trained on.
        columns: of what the guide's view observes, in the order of ``spec``; None for all.
        images: for each image of ``spec``, the name of the environment's.
    """

    spec: ObservationSpec
    columns: tuple[int, ...] | None
    images: tuple[str, ...]

    def __call__(self, observed: Observation) -> Any:
        """NumPy arrays, with the leading axis of what the view has observed."""
        vector = observed.vector
        if self.columns is not None:
            vector = vector[..., list(self.columns)]
        names = [part.name for part in self.spec.images]
        images = {n: observed.images[own] for n, own in zip(names, self.images, strict=True)}
        return as_given(self.spec, Observation(vector, images))


def plain_observations(shape: Sequence[int]) -> ObservationSpec:
    """Of arrays of real numbers of one shape."""
    return ObservationSpec((VectorPart((), tuple(shape)),))


def fit_observations(view: BoundView, spec: ObservationSpec, file: str, source: str) -> GivenAs:
    """How a policy is given what the view observes.

    A policy of one flat array takes all columns in their order. Parts of other policies are found
    by their names; a policy of a single part needs none.

    Args:
        view: of the environment, with what ``guide.observation`` selects.
        spec: what the policy was trained on.
        file: what messages call the policy.
        source: the same observations as text, in the file's own words.

    Raises:
        UserError: if they do not fit; it says both.
    """
    if not view.images and _is_flat(spec):
        if spec.size == view.size:
            return GivenAs(spec, None, ())
        raise _unfit(view, file, source)
    view.require_whole_parts(file)
    seen = view.seen_spec()
    if len(spec.parts) == len(seen.parts) == 1:
        pairs = [(spec.parts[0], seen.parts[0])]
    else:
        named = {part.name: part for part in seen.parts}
        if set(named) != {part.name for part in spec.parts}:
            raise _unfit(view, file, source)
        pairs = [(part, named[part.name]) for part in spec.parts]
    if not all(_alike(one, other) for one, other in pairs):
        raise _unfit(view, file, source)
    places = {name: range(start, stop) for name, start, stop in seen.layout}
    columns = [c for one, other in pairs if isinstance(one, VectorPart) for c in places[other.name]]
    images = [other.name for one, other in pairs if isinstance(one, ImagePart)]
    return GivenAs(spec, tuple(columns), tuple(images))


def select_parts(view: GuideView, names: Sequence[str], spec: EnvSpec) -> GuideView:
    """The view of a policy that names the parts that it knows: those, unless the user chose.

    Names that the environment lacks are left out here, for ``fit_observations`` to refuse.
    """
    known = [part.name for part in spec.observation.parts]
    chosen = tuple(name for name in names if name in known)
    if view.observation is not None or not chosen or set(chosen) == set(known):
        return view
    return GuideView(chosen, view.mean, view.std, view.action_low, view.action_high)


def fit_actions(trained: ActionSpec, spec: EnvSpec, file: str, source: str) -> ActionRange:
    """The range in which a policy answers: the bounds of the actions that it was trained with.

    Args:
        trained: those actions. Bounds that are not finite tell nothing: the environment's count.
        spec: of the environment.
        file: what messages call the policy.
        source: the same actions as text, in the file's own words.

    Raises:
        UserError: if the environment takes others; it says both.
    """
    own = spec.actions
    if isinstance(trained, DiscreteActions) and trained == own:
        return environment_range(spec)
    if isinstance(trained, BoxActions) and _shape(own) == trained.shape:
        if not np.isfinite([*trained.low, *trained.high]).all():
            return environment_range(spec)
        source = "the bounds that it was trained with"
        return ActionRange(trained.low, trained.high, source, f"{file}: ")
    raise UserError(
        f"{file} was trained with actions {source}; {spec.id} takes {_shown_actions(own)}; choose "
        "a guide that was trained with such actions"
    )


def _shape(actions: ActionSpec) -> tuple[int, ...] | None:
    return actions.shape if isinstance(actions, BoxActions) else None


def _is_flat(spec: ObservationSpec) -> bool:
    parts = spec.vector
    return not spec.images and len(parts) == 1 and len(parts[0].shape) == 1 and not parts[0].counts


def _alike(one: VectorPart | ImagePart, other: VectorPart | ImagePart) -> bool:
    """Whether two parts hold the same; where the channels of an image stand does not matter."""
    if isinstance(one, ImagePart) and isinstance(other, ImagePart):
        return one.image_shape == other.image_shape
    if isinstance(one, ImagePart) or isinstance(other, ImagePart):
        return False
    return (one.shape, one.counts, one.starts) == (other.shape, other.counts, other.starts)


def _unfit(view: BoundView, file: str, source: str) -> UserError:
    parts = [f"{part.name} {_shown_part(part)}" for part in view.spec.observation.parts]
    chosen = view.values.observation
    selects = "" if chosen is None else f", of which guide.observation={list(chosen)} selects"
    size = f" {view.size} columns" if selects and not view.images else ""
    return UserError(
        f"{file} was trained on observations {source}; {view.spec.id} observes "
        f"{', '.join(parts)}{selects}{size}; select by guide.observation what it was trained on"
    )


def _shown_part(part: VectorPart | ImagePart) -> str:
    if isinstance(part, ImagePart):
        return f"{part.shape} bytes"
    return f"{part.shape} of {list(part.counts)} choices" if part.counts else f"{part.shape}"


def _shown_actions(actions: ActionSpec) -> str:
    if isinstance(actions, DiscreteActions):
        start = f", start={actions.start}" if actions.start else ""
        return f"Discrete({actions.n}{start})"
    return f"Box({actions.shape})"
