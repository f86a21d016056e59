"""A checked set of offline transitions, split into episodes.

``make_dataset`` is the one gate: whatever a loader read passes through it, so that everything
after it may rely on shapes, finite values, actions in [-1, 1] and true successors.

Sizes: N transitions, O observation size, A action size, K episodes.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from jsrl.datasets.validation import (
    ActionBound,
    checked_actions,
    checked_flags,
    checked_floats,
    dataset_error,
)
from jsrl.errors import UserError
from jsrl.seeding import seed_sequence
from jsrl.types import EnvSpec, TransitionData

REQUIRED_ARRAYS = ("observations", "actions", "rewards", "terminals")
OPTIONAL_ARRAYS = ("timeouts", "next_observations")

SAME_STATE_TOLERANCE = 1e-5
"""Two stored observations closer than this (absolute and relative) are the same state."""


@dataclass(frozen=True)
class Dataset:
    """Offline transitions in whole episodes.

    Args:
        data: N transitions; those of an episode stand side by side, in order. The last one of
            an episode has exactly one of ``terminals`` and ``timeouts`` set, no other has any.
        source: what was read: a file, a D4RL name or a Minari identifier.
        fingerprint: SHA-256 of the contents of ``data`` in hexadecimal digits; equal data have
            equal fingerprints, wherever they came from.
        episode_starts: int64 ``[K]``, the index of each episode's first transition, ascending.
    """

    data: TransitionData
    source: str
    fingerprint: str
    episode_starts: Int64[np.ndarray, " K"]

    def __len__(self) -> int:
        return len(self.data)

    @property
    def num_episodes(self) -> int:
        return len(self.episode_starts)

    @property
    def observation_size(self) -> int:
        return int(self.data.observations.shape[1])

    @property
    def action_size(self) -> int:
        return int(self.data.actions.shape[1])

    @property
    def episode_lengths(self) -> Int64[np.ndarray, " K"]:
        """The number of transitions of each episode."""
        return np.diff(self.episode_starts, append=len(self))

    @property
    def episode_returns(self) -> Float[np.ndarray, " K"]:
        """The undiscounted sum of each episode's rewards, float64."""
        return np.add.reduceat(self.data.rewards.astype(np.float64), self.episode_starts)

    @property
    def num_successes(self) -> int:
        """The number of episodes that ended in a terminal transition."""
        return int(np.count_nonzero(self.data.terminals))

    def summary(self) -> str:
        """One line that says what was read."""
        return (
            f"dataset {self.source}: {len(self)} transitions in {self.num_episodes} episodes, "
            f"observation size {self.observation_size}, action size {self.action_size}, "
            f"{self.num_successes} episodes ended in a terminal state, "
            f"mean return {self.episode_returns.mean():.4g}"
        )

    def take_episodes(self, transitions: int, seed: int) -> "Dataset":
        """The first ``transitions`` transitions of a shuffle of whole episodes.

        The last episode is cut to end there and is marked as a timeout at the cut. A smaller
        subset of the same seed is the beginning of a larger one, but for that mark.

        Args:
            transitions: how many transitions to keep, 1 to N.
            seed: the shuffle depends on it and on nothing else.

        Raises:
            UserError: if ``transitions`` is below 1 or above N.
        """
        if not 1 <= transitions <= len(self):
            raise UserError(
                f"dataset.transitions={transitions}: expected 1 to {len(self)}, the number of "
                f"transitions in {self.source}; choose a number in that range or leave it out"
            )
        order, ends = self._shuffled(seed)
        chosen = order[: int(np.searchsorted(ends, transitions)) + 1]
        lengths = self.episode_lengths[chosen]
        lengths[-1] -= int(ends[len(chosen) - 1]) - transitions
        starts = np.cumsum(lengths) - lengths
        indices = np.arange(transitions) + np.repeat(self.episode_starts[chosen] - starts, lengths)
        data = self.data.take(indices)
        # ``take`` copies, so that marking the cut leaves the whole dataset as it is.
        data.timeouts[-1] = not data.terminals[-1]
        source = f"{self.source} ({transitions} of {len(self)} transitions, dataset.seed={seed})"
        return Dataset(data, source, fingerprint(data), starts)

    def held_out(self, transitions: int, seed: int, count: int) -> TransitionData:
        """Transitions of the episodes of which ``take_episodes`` takes nothing.

        Args:
            transitions: how many ``take_episodes`` keeps.
            seed: the same as there.
            count: how many to choose, at random by the same seed; all if there are fewer.

        Raises:
            UserError: if no whole episode is left.
        """
        order, ends = self._shuffled(seed)
        first = int(np.searchsorted(ends, transitions)) + 1
        left = order[first:]
        if not len(left):
            raise UserError(
                f"dataset.transitions={transitions} leave no episode of {self.source}, which has "
                f"{len(self)} transitions, to be held out; take fewer, or collect more"
            )
        rows = np.concatenate(
            [np.arange(self.episode_lengths[k]) + self.episode_starts[k] for k in left]
        )
        rng = np.random.default_rng(seed_sequence(seed, "held-out states"))
        return self.data.take(rng.permutation(rows)[:count])

    def _shuffled(self, seed: int) -> tuple[Int64[np.ndarray, " K"], Int64[np.ndarray, " K"]]:
        """The episodes in the order in which they are taken, and where each ends in it."""
        rng = np.random.default_rng(seed_sequence(seed, "dataset subset"))
        order = rng.permutation(self.num_episodes)
        return order, np.cumsum(self.episode_lengths[order])

    def validate(self, spec: EnvSpec) -> None:
        """Check that the data fit an environment.

        Raises:
            UserError: if the observation or action size is not the environment's.
        """
        for name, here, there in (
            ("observation", self.observation_size, spec.observation_size),
            ("action", self.action_size, spec.action_size),
        ):
            if here != there:
                raise dataset_error(
                    self.source,
                    f"the {name} size is {here}, but environment '{spec.id}' has {name} size "
                    f"{there}; choose a dataset and env.id that belong together",
                )


def make_dataset(
    arrays: Mapping[str, Any],
    source: str,
    *,
    action_low: ActionBound | None = None,
    action_high: ActionBound | None = None,
    clip_actions: bool = False,
) -> Dataset:
    """Check arrays in D4RL's layout and turn them into a dataset.

    Where an episode ends:
        - at a terminal, and at a timeout, and at the end of the arrays. A transition that is
          marked as both counts as a terminal.
        - Without ``timeouts`` but with ``next_observations``, an episode also ends where the
          successor is not the observation of the next row; that end is a timeout.
        - Without both, nothing tells a timeout, and only terminals end an episode.

    Where successors come from: with ``next_observations`` they are taken as they are and every
    row is kept. Without, they are the observations of the next row. A terminal transition's
    successor then stays unknown and does not matter, since nothing is bootstrapped from it: its
    own observation stands in. The last transition of an episode that did not end in a terminal
    has no successor at all: it is dropped, as D4RL's ``qlearning_dataset`` does, and the one
    before it becomes the timeout.

    Args:
        arrays: ``observations`` [N, O], ``actions`` [N, A], ``rewards``, ``terminals`` and
            optionally ``timeouts`` [N] or [N, 1], and optionally ``next_observations`` [N, O].
            Other entries are ignored.
        source: what was read; it opens every error message.
        action_low: the environment's lower action bounds, a number or [A]. With both bounds the
            actions are rescaled to [-1, 1]; without, they must be in [-1, 1] already.
        action_high: the upper ones.
        clip_actions: clip actions further outside too, where the environment did so when the
            data were collected.

    Returns:
        float32 data, which may share memory with ``arrays``. Actions outside [-1, 1] by no more
        than rounding (``ACTION_TOLERANCE``) are clipped.

    Raises:
        UserError: for a missing array, a wrong rank, type or length, no transitions, NaN or
            infinite values, flags other than 0 and 1, or actions out of bounds.
    """
    known = _known_arrays(arrays, source)
    observations = checked_floats(known["observations"], "observations", 2, source)
    actions = checked_floats(known["actions"], "actions", 2, source)
    actions = checked_actions(actions, action_low, action_high, clip_actions, source)
    rewards = checked_floats(known["rewards"], "rewards", 1, source)
    terminals = checked_flags(known["terminals"], "terminals", source)
    successors = _checked_successors(known, observations.shape[1], source)
    if "timeouts" in known:
        timeouts = checked_flags(known["timeouts"], "timeouts", source)
    else:
        timeouts = _jumps(observations, successors)
    return _assemble(observations, actions, rewards, successors, terminals, timeouts, source)


def fingerprint(data: TransitionData) -> str:
    """SHA-256 over the name, type, shape and bytes of every array, in hexadecimal digits."""
    digest = hashlib.sha256()
    for field in fields(data):
        array = np.ascontiguousarray(getattr(data, field.name))
        digest.update(f"{field.name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _known_arrays(arrays: Mapping[str, Any], source: str) -> dict[str, np.ndarray]:
    """The required and optional arrays, all there and of one length."""
    missing = [name for name in REQUIRED_ARRAYS if name not in arrays]
    if missing:
        raise dataset_error(
            source,
            f"{' and '.join(missing)} not found; expected the arrays "
            f"{', '.join(REQUIRED_ARRAYS)} of D4RL's layout; choose another file or add them",
        )
    known = {
        name: np.asarray(arrays[name])
        for name in REQUIRED_ARRAYS + OPTIONAL_ARRAYS
        if name in arrays
    }
    _check_lengths(known, source)
    return known


def _check_lengths(arrays: dict[str, np.ndarray], source: str) -> None:
    for name, array in arrays.items():
        if array.ndim == 0:
            raise dataset_error(
                source, f"{name} is a single value; expected an array with one row a transition"
            )
    expected = len(arrays["observations"])
    for name, array in arrays.items():
        if len(array) != expected:
            raise dataset_error(
                source,
                f"{name} has {len(array)} rows, but observations has {expected}; expected equal "
                "lengths; the file may have been cut or mixed up: make or fetch it again",
            )
    if expected == 0:
        raise dataset_error(source, "0 transitions; expected at least 1; choose another file")


def _checked_successors(
    arrays: dict[str, np.ndarray], size: int, source: str
) -> Float[np.ndarray, "N O"] | None:
    """The stored next observations, if there are any."""
    if "next_observations" not in arrays:
        return None
    successors = checked_floats(arrays["next_observations"], "next_observations", 2, source)
    if successors.shape[1] != size:
        raise dataset_error(
            source,
            f"next_observations have size {successors.shape[1]}, but observations have size "
            f"{size}; expected equal sizes; check how the file was made",
        )
    return successors


def _jumps(
    observations: Float[np.ndarray, "N O"], successors: Float[np.ndarray, "N O"] | None
) -> Bool[np.ndarray, " N"]:
    """Rows whose successor is not the next row's observation; all False if it is unknown."""
    jumps = np.zeros(len(observations), dtype=bool)
    if successors is not None:
        jumps[:-1] = ~np.isclose(
            successors[:-1],
            observations[1:],
            rtol=SAME_STATE_TOLERANCE,
            atol=SAME_STATE_TOLERANCE,
        ).all(axis=1)
    return jumps


def _assemble(
    observations: Float[np.ndarray, "N O"],
    actions: Float[np.ndarray, "N A"],
    rewards: Float[np.ndarray, " N"],
    successors: Float[np.ndarray, "N O"] | None,
    terminals: Bool[np.ndarray, " N"],
    timeouts: Bool[np.ndarray, " N"],
    source: str,
) -> Dataset:
    """Split checked arrays into episodes and derive the successors that were not stored."""
    ends = terminals | timeouts
    ends[-1] = True
    cut = ends & ~terminals
    if successors is not None:
        data = TransitionData(observations, actions, rewards, successors, terminals, cut)
    else:
        next_observations = np.empty_like(observations)
        next_observations[:-1] = observations[1:]
        next_observations[terminals] = observations[terminals]
        # The row before a dropped one is the new last row, if it is of the same episode.
        new_timeouts = np.zeros_like(cut)
        new_timeouts[:-1] = cut[1:] & ~ends[:-1]
        data = TransitionData(
            observations, actions, rewards, next_observations, terminals, new_timeouts
        )
        if cut.any():
            data = data.take(np.flatnonzero(~cut))
    if len(data) == 0:
        raise dataset_error(
            source,
            "no transition has a successor: every episode is a single step that is not terminal; "
            "expected longer episodes, or next_observations in the file",
        )
    last = data.terminals | data.timeouts
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.flatnonzero(last[:-1]) + 1])
    return Dataset(data, source, fingerprint(data), starts.astype(np.int64))
