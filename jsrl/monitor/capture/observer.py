"""Watches a policy while something else steps the environments, and passes its steps on."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor

from jsrl.core.observations import Observation, joined
from jsrl.core.streams import Streams
from jsrl.core.transitions import Moment
from jsrl.monitor.capture.layers import LayerCapture
from jsrl.monitor.capture.steps import ACTORS, PHASES, WatchedSteps

STEPS_AT_ONCE = 64
"""How many moments are gathered before they are passed on as watched steps."""

NOT_RECORDED = ("observation", "members", "share", "next_guide")

COLUMNS = tuple(f.name for f in fields(Moment) if f.name not in NOT_RECORDED)

CLOCKS = ("step", "offset", "calls", "largest")

Sink = Callable[[int, WatchedSteps, dict[str, Tensor]], None]
"""Takes the steps of one seed, by its place, and each layer's activations ``[N, D]`` in them."""


@dataclass
class Observer:
    """Watches every ``interval``-th step, and passes on the steps of each seed.

    Args:
        capture: the layers of the policy that is asked at every step.
        seeds: the S seeds.
        phase: the phase of the steps; None for online learning, where it follows from who acts.
        interval: the steps of all environments from one that is watched to the next.
        share: the share of the episodes that are recorded, which are drawn by their number.
        streams: the streams of the seeds; the share is drawn from them.
        envs: how many environments each seed has.
        sink: takes the watched steps.
        step: how many environment steps each seed has taken so far.
        offset: what is added to the numbers of episodes, which begin at 0 in every evaluation.
        calls: how many steps of all environments there were so far.
        largest: the largest number of an episode so far.
    """

    capture: LayerCapture
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
    _waiting: list[tuple[int, Moment, dict[str, Tensor]]] = field(default_factory=list)

    def begin_step(self) -> AbstractContextManager[Any] | None:
        """See ``StepObserver``: a recorder of the pass, at every ``interval``-th step."""
        self.calls += 1
        self.step += self.envs
        if self.calls % self.interval:
            return None
        self._seen = {}
        return self.capture.recorder(self._seen)

    def acted(self, moment: Moment) -> None:
        """See ``StepObserver``. Many moments are passed on at once, which costs less."""
        if not self._seen:
            # The guide acted everywhere, but the activations of the policy are wanted all the same.
            seen = moment.observation.arranged(len(self.seeds), self.envs)
            self._seen = self.capture.observe(seen)
        self.capture.require_all(self._seen)
        self._waiting.append((self.step, moment, self._seen))
        if len(self._waiting) >= STEPS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Pass on all watched steps so far."""
        if not self._waiting:
            return
        steps, moments, seen = zip(*self._waiting, strict=True)
        self._waiting = []
        leading = (len(steps), len(self.seeds), self.envs)
        shape = (*leading, -1)
        # Concatenated, not stacked, which takes several times as long for so many small parts.
        columns = {
            name: np.concatenate([getattr(moment, name) for moment in moments]).reshape(shape)
            for name in COLUMNS
        }
        observed = joined([moment.observation for moment in moments])
        columns["observations"] = observed.vector.numpy().reshape(shape)
        images = {n: i.numpy().reshape(*leading, *i.shape[1:]) for n, i in observed.images.items()}
        wanted = columns["counts"].squeeze(-1) & self._recorded(moments)
        columns["episodes"] = columns["episodes"] + self.offset
        self.largest = max(self.largest, int(columns["episodes"].max()))
        columns["step"] = np.broadcast_to(
            np.array(steps, np.int64).reshape(-1, 1, 1, 1), (*wanted.shape, 1)
        )
        activations = {
            name: torch.cat([of_step[name] for of_step in seen]).view(shape)
            for name in self.capture.layers
        }
        for index, seed in enumerate(self.seeds):
            mask = wanted[:, index]
            if mask.any():
                where = torch.from_numpy(mask)
                layers = {n: v[:, index][where.to(v.device)] for n, v in activations.items()}
                own = {name: values[:, index][mask] for name, values in columns.items()}
                steps_of_seed = self._watched_steps(own, seed)
                seen_images = {name: image[:, index][mask] for name, image in images.items()}
                self.sink(index, replace(steps_of_seed, images=seen_images), layers)

    def restart(self) -> None:
        """See ``StepObserver``: later episodes get numbers that were not used yet."""
        self.flush()
        self.offset = self.largest + 1

    def state_dict(self) -> dict[str, Any]:
        """The clocks, and the moments that were not passed on yet.

        Moments are kept as they are. So a run that is saved in between passes on the same steps at
        the same time as one that is not.
        """
        clocks = {name: getattr(self, name) for name in CLOCKS}
        waiting = [
            {
                "step": step,
                "moment": {
                    "observation": moment.observation.vector.clone(),
                    "images": {n: i.clone() for n, i in moment.observation.images.items()},
                    **{n: torch.from_numpy(getattr(moment, n).copy()) for n in COLUMNS},
                },
                "seen": dict(seen),
            }
            for step, moment, seen in self._waiting
        ]
        return {**clocks, "waiting": waiting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        for name in CLOCKS:
            setattr(self, name, state[name])
        self._waiting = [
            (
                entry["step"],
                _moment(entry["moment"]),
                {name: v.to(self.capture.device) for name, v in entry["seen"].items()},
            )
            for entry in state["waiting"]
        ]

    def _watched_steps(self, columns: Mapping[str, NDArray[Any]], seed: int) -> WatchedSteps:
        """The steps of one seed, from their columns ``[N, width]``."""
        guided, stages, steps, episodes, times = (
            columns[name][:, 0] for name in ("by_guide", "stages", "step", "episodes", "times")
        )
        actor = np.where(guided, ACTORS.index("guide"), ACTORS.index("exploration"))
        if self.phase is None:
            # Phases and actors of online learning bear the same names.
            phase = np.where(guided, PHASES.index("guide"), PHASES.index("exploration"))
        else:
            phase = np.full(len(actor), PHASES.index(self.phase))
        return WatchedSteps(
            observations=columns["observations"],
            actions=columns["actions"].astype(np.float32, copy=False),
            step=steps,
            episode=episodes,
            time=times,
            phase=phase.astype(np.int64),
            stage=stages.astype(np.int64),
            actor=actor.astype(np.int64),
            seed=np.full(len(actor), seed, np.int64),
        )

    def _recorded(self, moments: Sequence[Moment]) -> Bool[NDArray[np.bool_], "K S E"]:
        """Whether each step's episode belongs to the share that is recorded."""
        shape = (len(moments), len(self.seeds), self.envs)
        if self.share >= 1:
            return np.ones(shape, bool)
        return np.stack([self._chosen_of(moment) for moment in moments]).reshape(shape)

    def _chosen_of(self, moment: Moment) -> Bool[NDArray[np.bool_], " N"]:
        keys = [(i // self.envs, int(e) + self.offset) for i, e in enumerate(moment.episodes)]
        for key, counts in zip(keys, moment.counts, strict=True):
            if not counts:
                self._chosen[key] = False
            elif key not in self._chosen:
                drawn = self.streams.select(key[0]).integer("episode is recorded", key[1])[0]
                self._chosen[key] = drawn < self.share * 2**31
        self._chosen = {key: self._chosen[key] for key in keys}
        return np.array([self._chosen[key] for key in keys])


def _moment(plain: Mapping[str, Any]) -> Moment:
    """The moment that a checkpoint holds."""
    # An earlier version called it otherwise, and had no images.
    vector = plain.get("observation", plain.get("observations"))
    observation = Observation(vector, dict(plain.get("images", {})))
    return Moment(observation, **{name: plain[name].numpy() for name in COLUMNS})
