"""Records what a policy sees, does and thinks while something else steps the environments."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor

from jsrl.monitor.hooks import Capture, flatten_batch
from jsrl.monitor.rows import ACTORS, PHASES, Rows
from jsrl.seeding import Streams
from jsrl.types import Moment

Sink = Callable[[int, Rows, dict[str, Tensor]], None]
"""Takes the rows of one seed, by its place, and each layer's activations ``[N, D]`` in them."""


@dataclass
class Observer:
    """Looks at every ``interval``-th step, and passes on the rows of each seed.

    Args:
        capture: of the policy that is asked at every step.
        seeds: S.
        phase: of the rows; None for online learning, where it follows from who acts.
        interval: in steps of all environments together.
        share: of the episodes that are recorded, drawn by their number.
        streams: of the seeds: the share is drawn from them.
        envs: of each seed.
        sink: where rows go.
        step: steps of each seed before now.
        offset: added to the numbers of episodes, which begin at 0 in every evaluation.
        calls: how often it was asked.
        largest: number of an episode so far.
    """

    capture: Capture
    seeds: Sequence[int]
    phase: str | None
    interval: int
    share: float
    streams: Streams
    envs: int
    sink: Sink
    step: int = 0
    offset: int = 0
    calls: int = 0
    largest: int = -1
    _seen: dict[str, Tensor] = field(default_factory=dict)
    _chosen: dict[tuple[int, int], bool] = field(default_factory=dict)

    def look(self) -> AbstractContextManager[Any] | None:
        """See ``StepObserver``."""
        self.calls += 1
        self.step += self.envs
        if self.calls % self.interval:
            return None
        self._seen = {}
        return self.capture.attached(self._seen)

    def acted(self, moment: Moment) -> None:
        """See ``StepObserver``."""
        shape = (len(self.seeds), self.envs)
        if not self._seen:
            # The guide acted everywhere: what the network says all the same.
            observations = torch.from_numpy(moment.observations).view(*shape, -1)
            observations = observations.to(self.capture.device)
            self._seen = self.capture.forward(observations)
        self.capture.require_all(self._seen)
        activations = {n: flatten_batch(v, 2).view(*shape, -1) for n, v in self._seen.items()}
        self.largest = max(self.largest, int(moment.episodes.max()) + self.offset)
        wanted = moment.counts & self._recorded(moment)
        for index, seed in enumerate(self.seeds):
            mask = wanted.reshape(shape)[index]
            if mask.any():
                rows = self._rows(moment, index, seed, mask)
                where = torch.from_numpy(mask)
                self.sink(
                    index,
                    rows,
                    {n: v[index][where.to(v.device)] for n, v in activations.items()},
                )

    def restart(self) -> None:
        """See ``StepObserver``."""
        self.offset = self.largest + 1

    def state_dict(self) -> dict[str, Any]:
        """Clocks."""
        return {name: getattr(self, name) for name in ("step", "offset", "calls", "largest")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        for name, value in state.items():
            setattr(self, name, value)

    def _rows(
        self, moment: Moment, index: int, seed: int, mask: Bool[NDArray[np.bool_], " E"]
    ) -> Rows:
        places = index * self.envs + np.flatnonzero(mask)
        guided = moment.by_guide[places]
        count = len(places)
        actor = np.where(guided, ACTORS.index("guide"), ACTORS.index("exploration"))
        # Phases and actors of online learning bear the same names.
        names = [ACTORS[i] for i in actor] if self.phase is None else [self.phase] * count
        return Rows(
            observations=moment.observations[places].copy(),
            actions=moment.actions[places].copy(),
            step=np.full(count, self.step, np.int64),
            episode=moment.episodes[places] + self.offset,
            time=moment.times[places],
            phase=np.array([PHASES.index(name) for name in names], np.int64),
            stage=moment.stages[places],
            actor=actor.astype(np.int64),
            seed=np.full(count, seed, np.int64),
        )

    def _recorded(self, moment: Moment) -> Bool[NDArray[np.bool_], " N"]:
        """Whether each environment's episode belongs to the share that is recorded."""
        if self.share >= 1:
            return np.ones(len(moment.episodes), bool)
        keys = [(i // self.envs, int(e) + self.offset) for i, e in enumerate(moment.episodes)]
        for key, counts in zip(keys, moment.counts, strict=True):
            if not counts:
                self._chosen[key] = False
            elif key not in self._chosen:
                drawn = self.streams.select(key[0]).integer("episode is recorded", key[1])[0]
                self._chosen[key] = drawn < self.share * 2**31
        self._chosen = {key: self._chosen[key] for key in keys}
        return np.array([self._chosen[key] for key in keys])
