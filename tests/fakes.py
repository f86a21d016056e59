"""Environments, guides and policies that check how they are used, and do what can be foretold."""

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from jsrl.core.observations import Observation

COUNTING = "jsrl-tests/Counting-v0"
PICTURED = "jsrl-tests/Pictured-v0"
CHOOSING = "jsrl-tests/Choosing-v0"
TIME_LIMIT = 9
OBSERVATION_SIZE = 3
ACTION_SIZE = 2


class CountingEnv(gym.Env[Any, Any]):
    """Observes (start, t, sum of all actions so far); start and length follow from the seed.

    It insists on actions of the right shape, float32, in [-1, 1], on a seed at every reset, and on
    never being stepped after an episode's end.

    Args:
        lengths: an episode takes one of these numbers of steps.
        end: ``terminated`` or ``truncated``.
        succeeds: what ``info["success"]`` says at the end, False before; None leaves it out.
            ``info["finished"]`` is there at the end only.
        dictionary: observe a dictionary of ``state`` and ``clock`` instead of one box.
        strays: a state that outlives the environment shifts the start: it never replays.
    """

    made: ClassVar[list["CountingEnv"]] = []
    shift = 0.0

    def __init__(
        self,
        lengths: tuple[int, ...] = (5,),
        end: str = "terminated",
        succeeds: bool | None = True,
        dictionary: bool = False,
        strays: bool = False,
    ) -> None:
        box = gym.spaces.Box(-np.inf, np.inf, (OBSERVATION_SIZE,), np.float32)
        if dictionary:
            # Gymnasium sorts the names of a dictionary space that is made from a dict.
            parts = {"state": gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)}
            self.observation_space = gym.spaces.Dict(
                parts | {"clock": gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)}
            )
        else:
            self.observation_space = box
        self.action_space = gym.spaces.Box(-1, 1, (ACTION_SIZE,), np.float32)
        self.lengths, self.end, self.succeeds = tuple(lengths), end, succeeds
        self.dictionary, self.strays = dictionary, strays
        self.running = False
        self.reset_seeds: list[int] = []
        self.finished = 0
        CountingEnv.made.append(self)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        assert seed is not None, "a reset without a seed cannot be replayed"
        self.reset_seeds.append(seed)
        generator = np.random.default_rng(seed)
        self.start = generator.uniform(-1, 1)
        self.length = int(generator.choice(self.lengths))
        if self.strays:
            CountingEnv.shift += 0.125
            self.start += CountingEnv.shift
        self.clock, self.total, self.running = 0, 0.0, True
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.running, "stepped after the end of an episode, or before a reset"
        assert action.shape == (ACTION_SIZE,)
        assert action.dtype == np.float32
        assert (np.abs(action) <= 1).all()
        self.clock += 1
        self.total += float(action.sum())
        over = self.clock >= self.length
        if over:
            self.running = False
            self.finished += 1
        info = {} if self.succeeds is None else {"success": over and self.succeeds}
        if over:
            info["finished"] = True
        reward = self.clock + float(action[0])
        return (
            self._observe(),
            reward,
            over and self.end == "terminated",
            over and self.end == "truncated",
            info,
        )

    def _observe(self) -> Any:
        if self.dictionary:
            return {
                "state": np.array([self.start, self.total]),
                "clock": np.array([float(self.clock)]),
            }
        return np.array([self.start, self.clock, self.total], np.float32)


class PicturedEnv(CountingEnv):
    """The same, seen as a picture whose 24 bytes are (start, t, sum) in float64, and as t.

    Only the picture tells where the episode began and what was done in it.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.observation_space = gym.spaces.Dict(
            {
                "clock": gym.spaces.Box(0, np.inf, (2,), np.float32),
                "picture": gym.spaces.Box(0, 255, (4, 3, 2), np.uint8),
            }
        )

    def _observe(self) -> Any:
        told = np.array([self.start, self.clock, self.total])
        return {
            "clock": np.array([self.clock % 2, self.clock], np.float32),
            "picture": np.frombuffer(told.tobytes(), np.uint8).reshape(4, 3, 2),
        }


def told_by(picture: Tensor) -> np.ndarray:
    """(start, t, sum) of pictures ``[..., C, H, W]``, float64."""
    as_given = np.ascontiguousarray(np.moveaxis(picture.numpy(), -3, -1))
    return as_given.reshape(*as_given.shape[:-3], -1).view(np.float64)


CHOICES, FIRST_CHOICE = 4, 3


class ChoosingEnv(CountingEnv):
    """The same, with a choice among four that are numbered from 3; the sum is that of choices."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.action_space = gym.spaces.Discrete(CHOICES, start=FIRST_CHOICE)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert type(action) is int
        assert self.action_space.contains(action)
        self.total += action - FIRST_CHOICE
        return super().step(np.zeros(ACTION_SIZE, np.float32))


def register() -> None:
    """Make the fake environments known to Gymnasium."""
    fakes = {COUNTING: CountingEnv, PICTURED: PicturedEnv, CHOOSING: ChoosingEnv}
    for name, made in fakes.items():
        if name not in gym.registry:
            gym.register(name, made, max_episode_steps=TIME_LIMIT)


def chosen(actions: Tensor) -> Tensor:
    """The choice that the first number of each action stands for, ``[S, E]``."""
    return ((actions[..., 0] + 1) / 2 * CHOICES).long().clamp(0, CHOICES - 1)


class FakeGuide:
    """Answers ``answer`` where it is asked, records every call, and insists on the protocol.

    Args:
        answer: its action in every dimension.
        noise: of its actions; drawn for seeds with rows in the mask only.
        stateful: has a memory that a resume must rebuild: how many steps it acted in each row.
        chooses: answers with choices.
    """

    fingerprint = "fake"

    def __init__(
        self,
        answer: float = 0.5,
        noise: float = 0.0,
        stateful: bool = False,
        chooses: bool = False,
    ) -> None:
        self.answer, self.noise, self.stateful = answer, noise, stateful
        self.chooses = chooses
        self.calls: list[tuple[Tensor, Tensor]] = []
        self.resets: list[Tensor] = []
        self.memory: Tensor | None = None

    def act(self, obs: Observation, streams: Any, mask: Tensor) -> Tensor:
        assert obs.vector.dim() == 3
        assert obs.vector.dtype == torch.float32
        assert mask.dtype == torch.bool
        assert mask.shape == obs.leading
        assert mask.any(), "called where no row is its own"
        self.calls.append((obs.vector.clone(), mask.clone()))
        actions = torch.full((*mask.shape, ACTION_SIZE), self.answer)
        if self.noise and streams is not None:
            draws = streams.normal("fake_guide", actions.shape[1:], mask.any(1).tolist())
            actions = (actions + self.noise * draws).clamp(-1, 1)
        if self.stateful:
            assert self.memory is not None, "asked to act before any episode began"
            actions = actions * torch.where(self.memory % 2 == 0, 1.0, -1.0).unsqueeze(-1)
            self.memory += mask
        if self.chooses:
            return torch.where(mask, chosen(actions), 0)
        return torch.where(mask.unsqueeze(-1), actions, 0.0)

    def reset(self, mask: Tensor) -> None:
        assert mask.dtype == torch.bool
        assert mask.any()
        self.resets.append(mask.clone())
        if self.memory is None:
            self.memory = torch.zeros(mask.shape, dtype=torch.int64)
        self.memory[mask] = 0

    def rows(self) -> int:
        """In how many rows it was asked to act, over all calls."""
        return sum(int(mask.sum()) for _, mask in self.calls)


class FakePolicy:
    """A deterministic function of each row, plus noise where streams are given.

    Args:
        broken: the seed index whose actions are NaN, if any.
        chooses: acts by choices.
    """

    def __init__(
        self, noise: float = 0.3, broken: int | None = None, chooses: bool = False
    ) -> None:
        self.noise, self.broken, self.chooses = noise, broken, chooses
        self.calls: list[Tensor] = []

    def act(self, obs: Observation, streams: Any) -> Tensor:
        seen = obs.vector
        assert seen.dim() == 3
        assert seen.dtype == torch.float32
        self.calls.append(seen.clone())
        actions = torch.stack([-0.5 + 0.1 * seen[..., 0], 0.2 * torch.cos(seen[..., 1])], -1)
        if streams is not None:
            actions = actions + self.noise * streams.normal("action_noise", actions.shape[1:])
        actions = actions.clamp(-1, 1)
        if self.broken is not None:
            actions[self.broken] = torch.nan
        return chosen(actions) if self.chooses else actions


class FixedSteps:
    """A curriculum that always says the same h."""

    def __init__(self, steps: int, stage: int = 0) -> None:
        self.steps, self.stage = steps, stage

    def guide_steps(self, streams: Any) -> int:
        return self.steps

    def advance(self, evaluation: float, step: int) -> "FixedSteps":
        return FixedSteps(self.steps - 1, self.stage + 1)
