"""A checked set of offline transitions, split into episodes.

``make_dataset`` is the one gate: whatever a loader read passes through it, so that everything
after it may rely on shapes, finite values, actions in [-1, 1] and true successors.

Sizes: N transitions, O observation size, A action size, K episodes.
"""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from jsrl.core.conversions import show_range
from jsrl.core.errors import UserError
from jsrl.core.specs import DiscreteActions, EnvSpec
from jsrl.core.streams import seed_sequence
from jsrl.core.transitions import TransitionData
from jsrl.datasets.actions import read_actions
from jsrl.datasets.arrays import checked_successors, checked_vectors, known_arrays
from jsrl.datasets.choices import are_choices, read_choices
from jsrl.datasets.doubts import doubts_of, long_episodes
from jsrl.datasets.episodes import Episodes, Rows, episodes_of, starts_of, without
from jsrl.datasets.images import frames_of, require_images
from jsrl.datasets.jumps import find_jumps
from jsrl.datasets.reading import PLAIN, Reading
from jsrl.datasets.validation import checked_flags, checked_floats, dataset_error


class DatasetWarning(UserWarning):
    """Something in data that is possible, and probably wrong."""


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
        lines: what was converted or left out, one line each, to be printed.
        doubts: what is probably wrong with the data, one line each, to be printed.
        meant_for: the environment's action bounds, lower and upper, that -1 and 1 were taken to
            stand for; None where actions are relative to whatever bounds there are.
        unflagged: whether nothing in the file tells timeouts, and no time limit was known.
    """

    data: TransitionData
    source: str
    fingerprint: str
    episode_starts: Int64[np.ndarray, " K"]
    lines: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    meant_for: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    unflagged: bool = False

    def __len__(self) -> int:
        return len(self.data)

    @property
    def num_episodes(self) -> int:
        return len(self.episode_starts)

    def observed_episodes(self) -> Sequence[Float[Tensor, "_ O"]]:
        """The vectors that were observed in each episode."""
        vectors = torch.from_numpy(self.data.observations)
        return torch.tensor_split(vectors, [int(start) for start in self.episode_starts[1:]])

    @property
    def observation_size(self) -> int:
        return int(self.data.observations.shape[1])

    @property
    def action_size(self) -> int:
        """A; 1 for a choice."""
        return int(np.prod(self.data.actions.shape[1:]))

    @property
    def chooses(self) -> bool:
        """Whether actions are choices."""
        return self.data.actions.ndim == 1

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
        frames = self.data.frames
        images = "" if frames is None else f", images {', '.join(frames.images)}"
        acted = "choices" if self.chooses else f"action size {self.action_size}"
        return (
            f"dataset {self.source}: {len(self)} transitions in {self.num_episodes} episodes, "
            f"observation size {self.observation_size}{images}, {acted}, "
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
        return replace(
            self, data=data, source=source, fingerprint=fingerprint(data), episode_starts=starts
        )

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

    def notices(self) -> tuple[str, ...]:
        """Every line that should be printed beside the summary."""
        return (*self.lines, *(f"warning: {doubt}" for doubt in self.doubts))

    def validate(self, spec: EnvSpec) -> None:
        """Check that the data fit an environment.

        Raises:
            UserError: if the observation or action size is not the environment's, or if the data
                were read without the environment's ``spec`` although its action bounds or its time
                limit change what they mean.
        """
        require_images(self.data.frames, spec.observation, spec.id, self.source)
        if self.chooses != isinstance(spec.actions, DiscreteActions):
            kinds = ("choices", "real numbers")
            mine, theirs = kinds if self.chooses else reversed(kinds)
            raise dataset_error(
                self.source,
                f"its actions are {mine}, but environment '{spec.id}' takes {theirs}; choose a "
                "dataset and env.id that belong together",
            )
        size = spec.actions.size if not self.chooses else 1
        require_sizes(self.observation_size, self.action_size, spec, self.source, size)
        if isinstance(spec.actions, DiscreteActions):
            self._validate_choices(spec.actions, spec.id)
        elif self.meant_for is not None and not np.allclose(
            self.meant_for, bounds := (spec.box.low, spec.box.high)
        ):
            raise dataset_error(
                self.source,
                f"its actions were read for the bounds {show_range(*self.meant_for)}, but "
                f"{spec.id} has {show_range(*bounds)}; read it with spec=describe_env(...) of that "
                "environment, so that they are converted, or say action_low and action_high",
            )
        longest, limit = int(self.episode_lengths.max()), spec.max_episode_steps
        if self.unflagged and longest > limit:
            raise dataset_error(
                self.source,
                f"it has no timeouts, so that an episode of {longest} steps is longer than the "
                f"time limit of {spec.id}, {limit}; read it with spec=describe_env(...) of that "
                "environment, so that episodes end there",
            )
        doubt = long_episodes(Episodes(self.data, np.arange(len(self))), limit)
        if doubt is not None and not any(doubt in known for known in self.doubts):
            _warn((f"dataset {self.source}: {doubt}",))

    def _validate_choices(self, actions: DiscreteActions, env_id: str) -> None:
        """Raise UserError if a choice is none that the environment has."""
        largest = int(self.data.actions.max())
        if largest >= actions.n:
            raise dataset_error(
                self.source,
                f"it has the choice {largest}, but environment '{env_id}' has 0 to {actions.n - 1} "
                "(counted from 0); choose a dataset and env.id that belong together",
            )
        start = actions.start
        if self.meant_for is not None and self.meant_for[0][0] != start:
            raise dataset_error(
                self.source,
                f"its choices were read as if they began with {self.meant_for[0][0]:g}, but those "
                f"of {env_id} begin with {start}; read it with spec=describe_env(...) of that "
                "environment",
            )


def require_sizes(
    observation_size: int,
    action_size: int,
    spec: EnvSpec,
    source: str,
    expected: int | None = None,
) -> None:
    """Raise UserError if the observation or action size is not the environment's.

    ``expected`` is the size of an action, where that is not how many numbers one has.
    """
    for name, here, there in (
        ("observation", observation_size, spec.observation.size),
        ("action", action_size, spec.actions.size if expected is None else expected),
    ):
        if here != there:
            raise dataset_error(
                source,
                f"the {name} size is {here}, but environment '{spec.id}' has {name} size "
                f"{there}; choose a dataset and env.id that belong together",
            )


def make_dataset(
    arrays: Mapping[str, Any], source: str, reading: Reading = PLAIN, **options: Any
) -> Dataset:
    """Check arrays in D4RL's layout and turn them into a dataset.

    Where episodes end and where successors come from is told in ``episodes``.

    Args:
        arrays: ``observations`` [N, O], ``actions`` [N, A], ``rewards``, ``terminals`` and
            optionally ``timeouts`` [N] or [N, 1], and optionally ``next_observations`` [N, O].
            Other entries are ignored.
        source: what was read; it opens every error message.
        reading: how: see ``Reading``.
        options: fields of ``Reading`` that differ from those in ``reading``.

    Returns:
        float32 data, which may share memory with ``arrays``. Actions outside [-1, 1] by no more
        than rounding (``ACTION_TOLERANCE``) are clipped. What was converted and what looks wrong
        is told by ``lines`` and ``doubts``; of the latter a ``DatasetWarning`` warns, too.

    Raises:
        UserError: for a missing array, a wrong rank, type or length, no transitions, NaN or
            infinite values, flags other than 0 and 1, or actions out of bounds.
    """
    reading = replace(reading, **options)
    known = known_arrays(arrays, source)
    observations = checked_vectors(known["observations"], "observations", arrays, source)
    frames = frames_of(arrays, len(observations), source)
    spec = reading.spec
    if are_choices(known["actions"], reading):
        acted = read_choices(known["actions"], reading, source)
    else:
        actions = checked_floats(known["actions"], "actions", 2, source)
        if spec is not None:
            require_sizes(observations.shape[1], actions.shape[1], spec, source)
        acted = read_actions(actions, reading, source)
    rewards = checked_floats(known["rewards"], "rewards", 1, source)
    terminals = checked_flags(known["terminals"], "terminals", source)
    successors = checked_successors(known, observations.shape[1], source)
    timeouts = None
    if "timeouts" in known:
        timeouts = checked_flags(known["timeouts"], "timeouts", source)
    rows = Rows(observations, acted.values, rewards, successors, terminals, timeouts)
    limit = None if spec is None else spec.max_episode_steps
    episodes, doubts = _split(rows, limit, reading.split_at_jumps, source)
    data, doubts = episodes.data, (*acted.doubts, *doubts)
    if frames is not None:
        data = replace(data, frames=frames.take(episodes.rows))
    _warn(doubts)
    return Dataset(
        data,
        source,
        fingerprint(data),
        starts_of(data),
        (*acted.lines, *episodes.lines),
        doubts,
        acted.meant_for,
        episodes.unflagged,
    )


def _split(
    rows: Rows, limit: int | None, split_at_jumps: bool, source: str
) -> tuple[Episodes, tuple[str, ...]]:
    """The episodes of the rows, and what is doubtful about them."""
    episodes = episodes_of(rows, limit, source)
    data = episodes.data
    jumps = find_jumps(data.observations, data.next_observations, ~data.terminals)
    if split_at_jumps and jumps is not None:
        count = int(jumps.where.sum())
        line = (
            f"dataset {source}: episodes are ended before {count} transitions that jump to an "
            "unrelated state, which are left out (dataset.split_at_jumps)"
        )
        episodes = without(episodes, jumps.where)
        episodes = replace(episodes, lines=(*episodes.lines, line))
        jumps = None
    return episodes, doubts_of(episodes, rows, jumps, limit, source)


def _warn(doubts: tuple[str, ...]) -> None:
    for doubt in doubts:
        warnings.warn(doubt, DatasetWarning, stacklevel=3)


def fingerprint(data: TransitionData) -> str:
    """SHA-256 over the name, type, shape and bytes of every array, in hexadecimal digits."""
    digest = hashlib.sha256()
    arrays = data.arrays()
    if data.frames is not None:
        images = {f"image {name}": image for name, image in data.frames.images.items()}
        arrays |= {"image at": data.frames.at, "image after": data.frames.after, **images}
    for name, given in arrays.items():
        array = np.ascontiguousarray(given)
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
