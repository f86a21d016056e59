"""Acting: the latency of an action, and environment steps through the collector and without it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jsrl.benchmark.problem import CPU, Sizes
from jsrl.benchmark.results import Measurement
from jsrl.benchmark.timing import interleaved, ratio, typical
from jsrl.core.observations import Observation
from jsrl.core.protocols import StepObserver
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams
from jsrl.envs.make import Environments, EnvSettings, describe_env
from jsrl.jumpstart.curricula import ConstantCurriculum
from jsrl.networks.layers import INITIALISATIONS
from jsrl.networks.policies import GaussianPolicy
from jsrl.rollout.collector import Collector
from jsrl.rollout.transition_store import TransitionStore

COUNTS = (1, 16)
STEPS_IN_ROUND = 160
COLLECTOR_TARGET = 15.0
POINTMAZE = EnvSettings("PointMaze_UMaze-v3", {"continuing_task": False})


def make_policy(observation_size: int, action_size: int, hidden: int) -> GaussianPolicy:
    """A freshly initialised policy of one seed."""
    policy = GaussianPolicy(1, observation_size, action_size, (hidden, hidden))
    policy.mlp.initialise(INITIALISATIONS["orthogonal"], Streams([0]), "actor")
    return policy


def measure_latency(sizes: Sizes, seconds: float) -> list[Measurement]:
    """Microseconds from an observation to an action."""
    policy = make_policy(sizes.observation, sizes.action, sizes.hidden)
    streams = Streams([0])
    functions: dict[str, Callable[[], object]] = {}
    for count in COUNTS:
        obs = Observation(torch.randn(1, count, sizes.observation))
        functions[f"mode, S·E={count}"] = _act(policy, obs, None)
        functions[f"with noise, S·E={count}"] = _act(policy, obs, streams)
    times = interleaved(functions, seconds)
    return [
        Measurement("Action latency", name, 1e6 * typical(t), "µs") for name, t in times.items()
    ]


def measure_environment_steps(sizes: Sizes, seconds: float) -> list[Measurement]:
    """PointMaze steps per second, and what the collector adds to stepping and acting."""
    spec = describe_env(POINTMAZE)
    policy = make_policy(spec.observation.size, spec.actions.size, sizes.hidden)
    rows = []
    for count in COUNTS:
        raw, collecting = RawLoop(spec, policy, count), CollectorLoop(spec, policy, count)
        try:
            loops = {"raw": raw.step, "collector": collecting.step}
            times = interleaved(loops, seconds, calls=STEPS_IN_ROUND // count)
        finally:
            raw.close()
            collecting.close()
        overhead = 100 * (ratio(times["collector"], times["raw"]) - 1)
        rows += [
            *(_steps(f"{name}, E={count}", count / typical(times[name])) for name in times),
            Measurement(
                "PointMaze steps",
                f"collector's overhead, E={count}",
                overhead,
                "%",
                at_most=COLLECTOR_TARGET,
            ),
        ]
    return rows


class RawLoop:
    """E environments of one seed, the policy, and resets where an episode ended: nothing else.

    Noise and starts are drawn as the collector draws them, so that both walk the same way: how
    long the simulator takes depends on where it is.
    """

    def __init__(self, spec: EnvSpec, policy: GaussianPolicy, count: int) -> None:
        self._environments = Environments(POINTMAZE, count)
        self._policy = policy
        self._streams = Streams([0])
        self._episodes = np.zeros(count, np.int64)
        self._observation = self._reset(np.ones(count, bool))

    def step(self) -> None:
        seen = self._observation[None]
        actions: NDArray[np.float32] = self._policy.act(seen, self._streams)[0].numpy()
        step = self._environments.step(actions)
        self._observation = step.observation
        ended = step.terminated | step.truncated
        if ended.any():
            self._observation = self._reset(ended)

    def close(self) -> None:
        self._environments.close()

    def _reset(self, mask: NDArray[np.bool_]) -> Observation:
        seeds = [0] * len(mask)
        for i in np.flatnonzero(mask):
            seeds[i] = self._streams.integer("reset", int(i), int(self._episodes[i]))[0]
        self._episodes += mask
        return self._environments.reset(mask, seeds)


class CollectorLoop:
    """Acting by way of the collector and into the online buffer, as in training."""

    def __init__(
        self, spec: EnvSpec, policy: GaussianPolicy, count: int, capacity: int = 100_000
    ) -> None:
        environments = Environments(POINTMAZE, count)
        self._collector = Collector(environments, spec, count, Streams([0]), CPU)
        self._policy = policy
        self._curricula = [ConstantCurriculum()]
        self.buffer = TransitionStore(
            spec.observation,
            spec.actions,
            num_seeds=1,
            num_envs=count,
            capacity=capacity,
            discount=0.99,
            device=CPU,
        )

    def watch(self, observer: StepObserver) -> None:
        """Let something look on from now on."""
        self._collector.observer = observer

    def step(self) -> None:
        moment, step, _ = self._collector.step(self._policy, None, self._curricula)
        self.buffer.add(moment, step)

    def close(self) -> None:
        self._collector.close()


def _act(policy: GaussianPolicy, obs: Observation, streams: Streams | None) -> Any:
    return lambda: policy.act(obs, streams)


def _steps(name: str, rate: float) -> Measurement:
    return Measurement("PointMaze steps", name, rate, "1/s")
