"""A guide that does what demonstrations did: their actions in time, or those of the nearest state.

In time (``guide.by=time``) one demonstration is chosen for each episode, and its actions are taken
one after the other, whatever is observed: open-loop control. By state (``guide.by=state``) the
action is that of the recorded state nearest to what is observed, as in nearest-neighbour
regression (Cover and Hart 1967): then the data need not be whole episodes.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy
import torch
from jaxtyping import Bool, Float, Int, Shaped
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.errors import UserError
from jsrl.core.observations import Observation
from jsrl.core.ranges import one_of
from jsrl.core.specs import BoxActions, EnvSpec
from jsrl.core.streams import Streams
from jsrl.guides.base import combine
from jsrl.guides.keys import keys_moved
from jsrl.guides.options import Demonstrations, FileOptions, GuideInputs, guides
from jsrl.guides.view import BoundView, GuideView

BY = ("time", "state")
CHOOSE = ("random", "round_robin", "nearest_start")
AFTER = ("last", "zeros")
CONSTANT = 1e-6
"""A column whose standard deviation is below this does not vary, and is not divided by it."""


class NearestState:
    """Finds the recorded state that is nearest to an observation, by its Euclidean distance.

    States are compared as the guide sees them. Without a normaliser of its own each column is
    centred and divided by its standard deviation over all that was recorded.

    Args:
        states: float32 ``[M, O]``, whole vectors of the environment, among which it looks.
        recorded: float32 ``[N, O]``, from which mean and standard deviation are taken.
        view: what the guide sees of them.
    """

    def __init__(
        self,
        states: Float[NDArray[np.float32], "M O"],
        recorded: Float[NDArray[np.float32], "N O"],
        view: BoundView,
    ) -> None:
        self._view = view
        size = view.size
        self._mean, self._std = np.zeros(size), np.ones(size)
        if view.mean is None:
            seen = self._seen(torch.from_numpy(recorded))
            spread = seen.std(0)
            self._mean, self._std = seen.mean(0), np.where(spread < CONSTANT, 1.0, spread)
        self._tree = scipy.spatial.cKDTree(self._scaled(torch.from_numpy(states)))

    def indices(self, vectors: Float[Tensor, "n O"]) -> Int[NDArray[np.int64], " n"]:
        """For each vector the index of the nearest state; of equally near ones always the same."""
        found: NDArray[np.int64] = self._tree.query(self._scaled(vectors))[1]
        return found

    def _scaled(self, vectors: Float[Tensor, "n O"]) -> Float[NDArray[np.float64], "n O2"]:
        scaled: NDArray[np.float64] = (self._seen(vectors) - self._mean) / self._std
        return scaled

    def _seen(self, vectors: Float[Tensor, "n O"]) -> Float[NDArray[np.float64], "n O2"]:
        return self._view.observe(Observation(vectors)).vector.numpy().astype(np.float64)


class ReplayGuide:
    """Acts as demonstrations did. One set of demonstrations serves all seeds.

    Args:
        demonstrations: K of them, actions in [-1, 1] or choices from 0.
        view: which numbers of the observation it compares, and their normaliser.
        spec: of the environment.
        by: ``time`` or ``state``.
        choose: which demonstration an episode has: ``random``, each equally often;
            ``round_robin``, the one after the other in the order of the episodes' numbers; or
            ``nearest_start``, the one whose first state is nearest to the first that is observed.
        after: what is done when the demonstration is over: its ``last`` action, or ``zeros``.

    Raises:
        UserError: if there is nothing to compare, or ``zeros`` are no action.
    """

    def __init__(
        self,
        demonstrations: Demonstrations,
        view: GuideView,
        spec: EnvSpec,
        *,
        by: str = "time",
        choose: str = "random",
        after: str = "last",
    ) -> None:
        self.stateful = by == "time"
        self._by, self._choose, self._after = by, choose, after
        self._told = demonstrations.notices()
        self._source = demonstrations.source
        data, self._starts = demonstrations.data, demonstrations.episode_starts
        self._actions = torch.from_numpy(np.ascontiguousarray(data.actions))
        self._lengths = np.diff(self._starts, append=len(data))
        bound = view.bind(spec)
        if after == "zeros" and not isinstance(spec.actions, BoxActions):
            raise UserError(
                f"guide.after=zeros is no choice of {spec.id}; use guide.after=last, which repeats "
                "the demonstration's last one"
            )
        self._nearest: NearestState | None = None
        if by == "state" or choose == "nearest_start":
            _require_vector(bound, by, spec)
            states = data.observations if by == "state" else data.observations[self._starts]
            self._nearest = NearestState(states, data.observations, bound)
        self.fingerprint = combine(
            *(demonstrations.fingerprint, self._starts.tolist()), bound.values, by, choose, after
        )
        self._demonstration = np.zeros((0, 0), np.int64)
        self._clock = np.zeros((0, 0), np.int64)

    def lines(self) -> list[str]:
        """What was read and converted, and how it is replayed."""
        count = len(self._starts)
        if self._by == "state":
            how = f"the action of the nearest of their {len(self._actions)} states is taken"
        else:
            chosen = {
                "random": "drawn at random",
                "round_robin": "in turns",
                "nearest_start": "the one with the nearest first state",
            }[self._choose]
            end = "its last action is" if self._after == "last" else "zeros are"
            how = (
                f"one of them, {chosen}, is replayed in each episode, and after its end {end} "
                "repeated"
            )
        shortest, longest = int(self._lengths.min()), int(self._lengths.max())
        steps = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
        line = f"guide {self._source}: {count} demonstrations of {steps} steps; {how}"
        return [*self._told, line]

    def begin(
        self,
        mask: Bool[Tensor, "S E"],
        episodes: Int[NDArray[np.int64], "S E"],
        seeds: Int[NDArray[np.int64], "S E"],
    ) -> None:
        """Choose a demonstration for each episode that begins; see ``BeginsEpisodes``."""
        self.reset(mask)
        for where in np.argwhere(mask.cpu().numpy()):
            place = tuple(where)
            if self._choose == "random":
                number = Streams([int(seeds[place])]).integer("demonstration")[0]
                self._demonstration[place] = number % len(self._starts)
            elif self._choose == "round_robin":
                self._demonstration[place] = episodes[place] % len(self._starts)

    def reset(self, mask: Bool[Tensor, "S E"]) -> None:
        """New episodes begin, with the demonstration that there was before, at first the first."""
        if self._clock.shape != tuple(mask.shape):
            self._demonstration = np.zeros(tuple(mask.shape), np.int64)
            self._clock = np.zeros(tuple(mask.shape), np.int64)
        self._clock[mask.cpu().numpy()] = 0

    def act(
        self, obs: Observation, streams: Streams | None, mask: Bool[Tensor, "S E"]
    ) -> Shaped[Tensor, "S E *A"]:
        """Actions for the rows in ``mask``; see ``Guide.act``."""
        rows = mask.cpu()
        actions = torch.zeros(*mask.shape, *self._actions.shape[1:], dtype=self._actions.dtype)
        if self._by == "state":
            assert self._nearest is not None  # by=state has one
            actions[rows] = self._actions[self._nearest.indices(obs.vector.cpu()[rows])]
        else:
            actions[rows] = self._in_time(obs, rows)
        return actions.to(obs.device)

    def _in_time(self, obs: Observation, rows: Bool[Tensor, "S E"]) -> Shaped[Tensor, "n *A"]:
        acting = rows.numpy()
        if self._nearest is not None and (first := acting & (self._clock == 0)).any():
            seen = obs.vector.cpu()[torch.from_numpy(first)]
            self._demonstration[first] = self._nearest.indices(seen)
        chosen, clock = self._demonstration[acting], self._clock[acting]
        last = self._lengths[chosen] - 1
        actions = self._actions[self._starts[chosen] + np.minimum(clock, last)]
        if self._after == "zeros":
            actions[torch.from_numpy(clock > last)] = 0
        self._clock[acting] += 1
        return actions


def _require_vector(view: BoundView, by: str, spec: EnvSpec) -> None:
    if view.images or not view.size:
        what = "guide.by=state" if by == "state" else "guide.choose=nearest_start"
        raise UserError(
            f"{what} compares vectors, and {spec.id} observes the images "
            f"{', '.join(spec.observation.image_shapes)}; name the parts to compare by "
            "guide.observation, or use guide.by=time with guide.choose=random"
        )


@dataclass
class ReplayOptions(FileOptions):
    """Of ``guide=replay``: demonstrations."""

    # By what their actions are taken: time, one after the other, or state, the nearest one's.
    by: str = "time"
    # Of by=time, which one an episode has: random, round_robin or nearest_start; null: random.
    choose: str | None = None
    # Of by=time, what is done after the end of one: its last action, or zeros; null: last.
    after: str | None = None
    # Clip recorded actions outside of their range instead of refusing the file.
    clip_actions: bool = False
    # End demonstrations where their states jump implausibly, instead of a warning.
    split_at_jumps: bool = False
    # Of robomimic's layout: which recorded observations, by name; null: those of the environment.
    recorded_observation: list[str] | None = None
    # Of robomimic's layout: the filter key of the demonstrations, such as train; null: all.
    mask: str | None = None

    WANTED = "a file of demonstrations, a D4RL name or a Minari id"
    neutral = (("by", "time"), ("clip_actions", False), ("split_at_jumps", False))

    def check(self) -> None:
        super().check()
        one_of("guide.by", self.by, BY)
        for key, value, known in (("choose", self.choose, CHOOSE), ("after", self.after, AFTER)):
            if value is None:
                continue
            one_of(f"guide.{key}", value, known)
            if self.by == "state":
                raise UserError(
                    f"guide.{key}={value} is about demonstrations that are replayed in time, and "
                    f"guide.by=state goes by all recorded states; leave guide.{key} out, or use "
                    "guide.by=time"
                )

    def view(self) -> GuideView:
        # The bounds are those of the file's actions, and are converted when it is read.
        return replace(super().view(), action_low=None, action_high=None)

    def reading(self) -> dict[str, Any]:
        """How the file is to be read."""
        chosen = self.recorded_observation
        return {
            "action_low": self.action_low,
            "action_high": self.action_high,
            "clip_actions": self.clip_actions,
            "split_at_jumps": self.split_at_jumps,
            "observation": None if chosen is None else tuple(chosen),
            "mask": self.mask,
        }


SAME = ("path", "action_low", "action_high", "clip_actions", "split_at_jumps", "mask")
READ_BY = {**{name: name for name in SAME}, "observation": "recorded_observation"}
"""Options that the readers of data know too, by the names that these have for them."""


@guides.register("replay", ReplayOptions)
def make_replay(options: ReplayOptions, inputs: GuideInputs) -> ReplayGuide:
    """The demonstrations of the file. Reading it runs no code."""
    options.check()
    assert inputs.read is not None  # whoever builds guides from a configuration gives it
    path = str(options.path)
    with keys_moved("dataset", "guide", READ_BY, always=False):
        demonstrations = inputs.read(path, inputs.spec, "guide.path", options.reading())
    return ReplayGuide(
        demonstrations,
        options.view(),
        inputs.spec,
        by=options.by,
        choose=options.choose or CHOOSE[0],
        after=options.after or AFTER[0],
    )
