"""Compares jsrl's learners with those of Stable-Baselines3, given the same settings.

It needs ``stable-baselines3``, which the extra ``test`` brings. What it has found is in
``results/stable_baselines3``.

    python scripts/compare_with_stable_baselines3.py train sac
    python scripts/compare_with_stable_baselines3.py time sac
    python scripts/compare_with_stable_baselines3.py tables sac
    python scripts/compare_with_stable_baselines3.py look td3 --seeds 10 11 12 --steps 5000

This file is the protocol. It was committed before anything was run with it, first for SAC, later
for DQN, and then for PPO and TD3. Of TD3 the speed had been looked at before, and the returns of a
few short runs with smaller networks; of PPO runs on other seeds.

``train`` trains both libraries on one task with seeds 0 to 4: the same number of environment steps,
updates, network sizes and other settings, which stand in the YAML file beside this one. jsrl trains
without a guide and without offline data, its five seeds side by side in one process;
Stable-Baselines3 trains one seed after the other. Afterwards the same function evaluates every
final policy, without noise, in 50 episodes that begin from the same 50 reset seeds.

The primary question is asked of these final returns: does the mean of jsrl's seeds lie within the
95 % t-interval of the mean of Stable-Baselines3's seeds, or above it? Two learners that do equally
well pass about nineteen times in twenty. The returns on the way, of ten episodes each, are reported
as well. Nothing is decided by them, and jsrl's come from its own evaluations, whose start states
are others.

``time`` measures updates per second of one seed on one thread, sampling of the minibatch included,
on the same transitions, for all but PPO. The contestants take turns, ten rounds of 1,000 updates
each, so that other load of the machine meets all of them. The figure is the median over rounds of
the ratio within a round; for SAC and TD3 the aim is at least 1.5. They are measured as they are and
with ``learner.compile=true``. That option, which Stable-Baselines3 does not have, came after a
first look at SAC had found 1.2 without it.

What differs even so, because neither library has an option for it:

- Until learning starts, Stable-Baselines3 acts uniformly at random and jsrl by its untrained
  policy. For SAC these are 100 steps, half an episode of Pendulum. For DQN they are 1,000 steps, in
  which 88 % of jsrl's actions or more are random. For TD3 jsrl, too, acts at random, because it has
  an option for it.
- Both initialise by PyTorch's default for linear layers, from different random numbers.
- SAC: Stable-Baselines3 halves the sum of the critics' squared errors, which Adam's step size does
  not depend on, except through its ε of 1e-8. It computes log(1 - tanh²u + 1e-6), jsrl
  log(1 - tanh²u) in a form that does not cancel.
- DQN: Stable-Baselines3 clips gradients by their norm, which jsrl does not: here it is told to clip
  at infinity. jsrl's is double, which Stable-Baselines3's is not: here it is told not to be. Its
  target is replaced after every 128th update, that of Stable-Baselines3 after every 256th step, of
  which the first 1,000 have no updates.
- PPO: both begin with orthogonal weights, of gain √2 in hidden layers, 0.01 at the policy's output
  and 1 at the value's; jsrl multiplies those of layers behind a tanh by 1.13, the gain of tanh over
  that of ReLU. On the way Stable-Baselines3 is evaluated before the update of a rollout and jsrl
  behind it. Both add the value of the last observation where a time limit cut an episode.
- TD3: nothing else.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch
import yaml
from comparison import interval, open_table, processor, read_table
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise

import jsrl
from jsrl.core.specs import DiscreteActions
from jsrl.core.streams import Streams
from jsrl.core.transitions import TransitionData
from jsrl.envs.make import EnvSettings, describe_env
from jsrl.learners import LearnerInputs, learners
from jsrl.loggers import read_records
from jsrl.rollout.replay import Replay

RESULTS = Path(__file__).parents[1] / "results" / "stable_baselines3"
SEEDS = (0, 1, 2, 3, 4)
EPISODES, FIRST_RESET_SEED = 50, 10_000
THEIRS = "stable_baselines3"
EPISODES_ON_THE_WAY, ON_THE_WAY = 10, "evaluation/exploration_return"
ROUNDS, UPDATES = 10, 1_000


@dataclass(frozen=True)
class Task:
    """An environment with the settings of both libraries.

    Args:
        env: its Gymnasium id.
        steps: environment steps of a seed.
        interval: steps between two evaluations on the way.
        theirs: the name of the class in Stable-Baselines3.
        settings: its keywords.
        learner: jsrl's.
        options: of the learner, ``learner.NAME=VALUE``.
        online: of its online stage, ``online.NAME=VALUE``.
        timed: what ``time`` measures beside Stable-Baselines3: options that differ, by name; empty
            where nothing is measured.
        num_envs: environments of a seed, in both libraries.
        further: other overrides of jsrl.
    """

    env: str
    steps: int
    interval: int
    theirs: str
    settings: dict[str, Any]
    learner: str
    options: dict[str, Any]
    online: dict[str, Any]
    timed: dict[str, dict[str, Any]]
    num_envs: int = 1
    further: tuple[str, ...] = ()


TASKS = {
    name: Task(**settings)
    for name, settings in yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text()).items()
}


@dataclass(frozen=True)
class Score:
    """The mean return of one seed's policy after ``step`` environment steps."""

    library: str
    seed: int
    step: int
    episodes: int
    mean_return: float


def mean_return(task: Task, act: Callable[[np.ndarray], Any], episodes: int) -> float:
    """Of a policy without noise, from the same start states for everyone."""
    env = gymnasium.make(task.env)
    returns = []
    for episode in range(episodes):
        observation, _ = env.reset(seed=FIRST_RESET_SEED + episode)
        total, ended = 0.0, False
        while not ended:
            observation, reward, terminated, truncated, _ = env.step(act(observation))
            total += float(reward)
            ended = terminated or truncated
        returns.append(total)
    env.close()
    return float(np.mean(returns))


def train_jsrl(task: Task) -> Iterator[Score]:
    """All seeds, side by side."""
    with tempfile.TemporaryDirectory() as folder:
        run = jsrl.train(
            [
                *("env=gymnasium", f"env.id={task.env}", "env.success_key=null", "dataset=none"),
                *("guide=none", "curriculum=none", f"seeds=[{','.join(map(str, SEEDS))}]"),
                *("device=cpu", "threads=1", "logger=plain", f"run_dir={folder}/run"),
                *(f"online.steps={task.steps}", f"checkpoint.interval={task.steps}"),
                *(f"evaluation.interval={task.interval}", "evaluation.final_episodes=1"),
                *(f"evaluation.episodes={EPISODES_ON_THE_WAY}", f"learner={task.learner}"),
                *(f"learner.{name}={value}" for name, value in task.options.items()),
                *(f"online.{name}={value}" for name, value in task.online.items()),
                *(f"env.num_envs={task.num_envs}", *task.further),
            ]
        )
        for record in read_records(run.directory / "metrics.jsonl"):
            if record.name == ON_THE_WAY and 0 < record.step < task.steps:
                yield Score("jsrl", record.seed, record.step, EPISODES_ON_THE_WAY, record.value)
        for seed in SEEDS:
            policy = run.policy(seed)
            final = mean_return(task, lambda obs, p=policy: p.predict(obs)[0], EPISODES)
            yield Score("jsrl", seed, task.steps, EPISODES, final)


class EvaluateOnTheWay(BaseCallback):
    """Evaluates every ``task.interval`` steps, and leaves what is random in training alone."""

    def __init__(self, task: Task, seed: int) -> None:
        super().__init__()
        self.task, self.seed = task, seed
        self.scores: list[Score] = []

    def _on_step(self) -> bool:
        step = self.num_timesteps
        if step % self.task.interval == 0 and step < self.task.steps:
            found = mean_return(self.task, their_actions(self.model), EPISODES_ON_THE_WAY)
            self.scores.append(Score(THEIRS, self.seed, step, EPISODES_ON_THE_WAY, found))
        return True


def train_theirs(task: Task) -> Iterator[Score]:
    """One seed after the other."""
    for seed in SEEDS:
        model = their_model(task, seed, task.settings)
        callback = EvaluateOnTheWay(task, seed)
        model.learn(task.steps, callback=callback)
        yield from callback.scores
        final = mean_return(task, their_actions(model), EPISODES)
        yield Score(THEIRS, seed, task.steps, EPISODES, final)


def their_model(task: Task, seed: int, settings: dict[str, Any]) -> Any:
    """A fresh model of Stable-Baselines3."""
    learner = getattr(stable_baselines3, task.theirs)
    env = task.env if task.num_envs == 1 else make_vec_env(task.env, task.num_envs)
    return learner("MlpPolicy", env, seed=seed, device="cpu", **with_noise(task, settings))


def with_noise(task: Task, settings: dict[str, Any]) -> dict[str, Any]:
    """The keywords with an object in place of a standard deviation ``action_noise``, if any."""
    if "action_noise" not in settings:
        return settings
    size = gymnasium.make(task.env).action_space.shape
    assert size is not None
    noise = NormalActionNoise(np.zeros(size), np.full(size, settings["action_noise"]))
    return {**settings, "action_noise": noise}


def their_actions(model: Any) -> Callable[[np.ndarray], Any]:
    """A model of Stable-Baselines3 as a function of an observation, without noise."""
    return lambda observation: model.predict(observation, deterministic=True)[0]


TRAIN = {"jsrl": train_jsrl, THEIRS: train_theirs}


def train(name: str, libraries: list[str]) -> None:
    """Train with each library; every score becomes a line of ``NAME_returns_LIBRARY.csv``."""
    for library in libraries:
        with open_table(RESULTS / f"{name}_returns_{library}.csv", Score, versions()) as write:
            for score in TRAIN[library](TASKS[name]):
                write(score)
                print(score, flush=True)


@dataclass(frozen=True)
class Rate:
    """Updates per second of one contestant in one round."""

    round: int
    contestant: str
    updates_per_second: float


def measure_updates(name: str, _: list[str]) -> None:
    """Let all contestants take turns; every rate becomes a line of ``NAME_updates.csv``."""
    if not TASKS[name].timed:
        raise SystemExit(f"{name} has nothing that is timed")
    contestants = updaters(TASKS[name])
    with open_table(RESULTS / f"{name}_updates.csv", Rate, versions()) as write:
        for number in range(ROUNDS + 1):
            for contestant, update in contestants.items():
                rate = Rate(number, contestant, updates_per_second(update))
                if number > 0:  # the first warms up
                    write(rate)
                    print(rate, flush=True)


def updates_per_second(update: Callable[[int], None]) -> float:
    start = time.perf_counter()
    update(UPDATES)
    return UPDATES / (time.perf_counter() - start)


def updaters(task: Task) -> dict[str, Callable[[int], None]]:
    """Functions that make so many updates, of every contestant, on the same data."""
    from jsrl.rollout.offline_store import OfflineStore

    size = task.settings["batch_size"]
    idle = {**task.settings, "learning_starts": task.settings["buffer_size"]}
    model = their_model(task, 0, idle)
    model.learn(idle["buffer_size"])  # by random actions, and without an update
    spec, cpu = describe_env(EnvSettings(task.env, success_key=None)), torch.device("cpu")
    stored, chooses = model.replay_buffer, isinstance(spec.actions, DiscreteActions)
    actions, ended = stored.actions[:, 0], stored.dones[:, 0] > 0
    data = TransitionData(
        observations=stored.observations[:, 0],
        actions=actions[:, 0].astype(np.int64) if chooses else actions,
        rewards=stored.rewards[:, 0],
        next_observations=stored.next_observations[:, 0],
        terminals=ended & (stored.timeouts[:, 0] == 0),
        timeouts=ended & (stored.timeouts[:, 0] > 0),
    )
    store = OfflineStore(
        data, spec.observation, spec.actions, discount=task.options["discount"], device=cpu
    )
    replay = Replay(store, None, size, None, cpu)

    def ours(changes: dict[str, Any]) -> Callable[[int], None]:
        kind = learners[task.learner]
        options = kind.options(kind=task.learner, **task.options, **changes)
        inputs = LearnerInputs(Streams([0]).child("learner"), spec.observation, spec.actions, cpu)
        learner = kind.make(options, inputs)
        minibatches, draws = Streams([0]).child("minibatches"), Streams([0]).child("draws")

        def update(count: int) -> None:
            for _ in range(count):
                learner.update(replay.sample(minibatches), learner.draws(draws))

        return update

    return {
        **{name: ours(changes) for name, changes in task.timed.items()},
        THEIRS: lambda count: model.train(count, size),
    }


def versions() -> dict[str, str]:
    """Of what the figures come from."""
    modules = (torch, np, gymnasium, stable_baselines3)
    return {
        "python": platform.python_version(),
        "processor": processor(),
        **{module.__name__: module.__version__ for module in modules},
    }


def look(name: str, seeds: list[int], steps: int) -> None:
    """Train Stable-Baselines3 with other seeds, and print how each does on the way's start states.

    It writes nothing: such a look decides nothing.
    """
    for seed in seeds:
        model = their_model(TASKS[name], seed, TASKS[name].settings)
        model.learn(steps)
        found = mean_return(TASKS[name], their_actions(model), EPISODES_ON_THE_WAY)
        print(Score(THEIRS, seed, steps, EPISODES_ON_THE_WAY, found), flush=True)


def print_tables(name: str, libraries: list[str]) -> None:
    """What the README holds: every seed, the answer to the primary question, and the ratio."""
    task = TASKS[name]
    rows = [
        row
        for library in libraries
        for row in read_table(RESULTS / f"{name}_returns_{library}.csv")
    ]
    print("| library | step |", " | ".join(f"seed {seed}" for seed in SEEDS), "| mean [95 %] |")
    print("|---" * (len(SEEDS) + 3) + "|")
    for library in libraries:
        for step in sorted({int(row["step"]) for row in rows}):
            values = returns_of(rows, library, step)
            cells = " | ".join(f"{value:.1f}" for value in values)
            mean, (low, high) = np.mean(values), interval(values)
            print(f"| {library} | {step:,} | {cells} | {mean:.1f} [{low:.1f}, {high:.1f}] |")
    ours = float(np.mean(returns_of(rows, "jsrl", task.steps)))
    low, high = interval(returns_of(rows, THEIRS, task.steps))
    answer = "within" if low <= ours <= high else "above" if ours > high else "BELOW"
    print(
        f"\nAfter {task.steps:,} steps jsrl's {ours:.1f} lies {answer} [{low:.1f}, {high:.1f}].\n"
    )
    if not task.timed:
        return
    rates: dict[str, list[float]] = {}
    for row in read_table(RESULTS / f"{name}_updates.csv"):
        rates.setdefault(row["contestant"], []).append(float(row["updates_per_second"]))
    print("| contestant | updates/s | ratio to Stable-Baselines3 | in single rounds |")
    print("|---" * 4 + "|")
    for contestant, found in rates.items():
        ratios = np.array(found) / np.array(rates[THEIRS])
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"| {contestant} | {np.median(found):.0f} | {np.median(ratios):.2f} | {spread} |")


def returns_of(rows: list[dict[str, str]], library: str, step: int) -> list[float]:
    """Of every seed, in the order of ``SEEDS``."""
    found = {
        int(row["seed"]): float(row["mean_return"])
        for row in rows
        if row["library"] == library and int(row["step"]) == step
    }
    return [found[seed] for seed in SEEDS]


COMMANDS = {"train": train, "time": measure_updates, "tables": print_tables}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=[*COMMANDS, "look"])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("library", nargs="?", choices=TRAIN, help="for train; without it, both")
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12], help="for look")
    parser.add_argument("--steps", type=int, default=5_000, help="for look")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.command == "look":
        look(given.task, given.seeds, given.steps)
    else:
        COMMANDS[given.command](given.task, [given.library] if given.library else list(TRAIN))
