"""Compares jsrl's offline learners with those of d3rlpy, given the same data and settings.

What it has found is in ``results/d3rlpy``. d3rlpy has an environment of its own, which
``train_d3rlpy.py`` describes; the other commands need jsrl alone:

    python scripts/compare_with_d3rlpy.py data runs/d3rlpy
    .venv-d3rlpy/bin/python scripts/train_d3rlpy.py runs/d3rlpy
    python scripts/compare_with_d3rlpy.py train runs/d3rlpy
    python scripts/compare_with_d3rlpy.py tables runs/d3rlpy

This file is the protocol. It was committed before anything was run with seeds 0 to 4. Before that,
the commands were tried with a few updates of other seeds.

``data`` writes the 3,000 transitions of ``experiment=pointmaze_offline``: a noisy controller in the
U-maze of PointMaze, with the reward 1 at the goal, which ends the episode, and 0 elsewhere.

``train_d3rlpy.py`` and ``train`` train each of BC, IQL, AWAC, TD3+BC, CQL and Cal-QL on them with
seeds 0 to 4, by 3,000 updates: the same minibatch size, networks of two hidden layers of 64 units,
learning rates and other settings, which stand in the YAML file beside this one. jsrl trains its
five seeds side by side in one process, d3rlpy trains one after the other and saves its policies in
TorchScript. Then ``train`` evaluates every final policy by the same function, without noise, in 100
episodes that begin from the same 100 reset seeds.

The primary question is asked for each learner of the share of episodes that reach the goal, which
is the mean return as well: does the mean of jsrl's seeds lie within the 95 % t-interval of the mean
of d3rlpy's seeds, or above it? Two learners that do equally well pass about nineteen times in
twenty each, so that one of six may well fail by chance. Where nearly every episode reaches the
goal, or none does, the answer says little. A second question is therefore asked of the mean length
of an episode, which the time limit cuts at 300 steps: does jsrl's mean lie within d3rlpy's
interval, or below it?

Both libraries begin with PyTorch's default for linear layers, from different random numbers, have
Adam with its default settings, and draw minibatches with replacement. Both get rewards of
``reward_scale`` · r + ``reward_shift``. jsrl's other settings for offline learning (the decay of
the actor's learning rate, the clipping of the data's actions) are switched off, since d3rlpy has
none of them. What differs even so, because one of the two has no option for it:

- BC: jsrl maximises the likelihood of a Gaussian whose standard deviation is learnt, as in IQL;
  d3rlpy's mean learns from the squared error. With one standard deviation for all states, the
  gradients of the mean differ by a weight of each action dimension.
- IQL, AWAC: the logarithm of the standard deviation does not depend on the state in either library.
  jsrl clips a parameter that begins at 0, as the authors of IQL do; d3rlpy maps a parameter by a
  sigmoid into the same range, and begins in its middle: at -1.5 for IQL and at -3 for AWAC.
- IQL: both compute the value's loss from the target critics, and the actor's weights by the value
  after its step. jsrl's critics learn from the value after its step, as in the authors' code, and
  d3rlpy's from that before it.
- AWAC: d3rlpy's AWAC comes from its SAC, whose target subtracts the logarithm of the next action's
  probability times a temperature. Here that is a constant of 1, and the next action is the tanh of
  a Gaussian, where the policy itself adds its noise behind the tanh. The paper's target has no
  entropy, and jsrl follows the paper. d3rlpy is therefore trained as it is, for the two questions,
  and once more with a temperature of 0 ("without entropy"), for comparison; the next action stays
  d3rlpy's there. d3rlpy sums the actor's loss over a minibatch, which Adam's step does not depend
  on but through its ε.
- TD3+BC: d3rlpy's actor and targets move in the first update and then in every other, jsrl's in the
  second and then in every other. Both normalise observations by (x - mean)/(standard deviation +
  0.001) of the same data.
- CQL and Cal-QL: d3rlpy moves the factor of the Lagrangian form before it uses it, jsrl, as the
  authors of Cal-QL, uses the value from before the step. d3rlpy moves the temperature in the
  actor's step and uses it moved, jsrl uses it as it was; its loss is the temperature times the
  distance to the target entropy in d3rlpy, and its logarithm times that in jsrl.
- Cal-QL: jsrl continues the last reward of an episode that was cut for ever, d3rlpy gives a
  constant return to transitions behind which all rewards are those of failure; here both come
  to -500.
"""

import argparse
import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
import yaml
from comparison import interval, open_table, processor, read_table

import jsrl
from jsrl.datasets.d4rl import load_hdf5, save_hdf5
from jsrl.datasets.dataset import Dataset
from jsrl.envs.make import make_env
from jsrl.run.build import env_settings
from jsrl.run.saved import run_configuration

RESULTS = Path(__file__).parents[1] / "results" / "d3rlpy"
EXPERIMENT = ("experiment=pointmaze_offline", "device=cpu", "threads=1", "logger=plain")
THEIRS = "d3rlpy"
FIRST_RESET_SEED = 10_000


@dataclass(frozen=True)
class Task:
    """A learner with the settings of both libraries.

    Args:
        learner: jsrl's.
        options: of the learner, ``learner.NAME=VALUE``.
        theirs: the name in d3rlpy.
        settings: its keywords, beside the networks, which have jsrl's sizes.
        rewards: scale and shift of d3rlpy's rewards; jsrl's are among ``options``.
        normalised: whether d3rlpy normalises observations.
        failure_return: of transitions behind which there is no success, for Cal-QL.
        variants: further ways to train d3rlpy's: parameters that are set before, by name.
    """

    learner: str
    options: dict[str, Any]
    theirs: str
    settings: dict[str, Any]
    rewards: tuple[float, float] = (1.0, 0.0)
    normalised: bool = False
    failure_return: float | None = None
    variants: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def libraries(self) -> list[str]:
        """Whose policies there are."""
        return ["jsrl", THEIRS, *self.variants]


TASKS = {
    name: Task(**settings)
    for name, settings in yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text()).items()
}


@dataclass(frozen=True)
class Size:
    """How much is done, and where it is written."""

    folder: Path
    results: Path = RESULTS
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    updates: int = 3_000
    episodes: int = 100


@dataclass(frozen=True)
class Score:
    """What one seed's policy reached."""

    library: str
    seed: int
    episodes: int
    success: float
    mean_return: float
    mean_length: float


def write_data(size: Size, _: list[str]) -> None:
    """The transitions that the experiment learns from, as a file in D4RL's layout."""
    run = jsrl.train(
        [
            *EXPERIMENT,
            *("seeds=[100]", "offline.updates=1", "evaluation.episodes=1"),
            *("evaluation.final_episodes=1", f"run_dir={size.folder / 'data'}"),
        ]
    )
    data = data_of(run.directory)
    save_hdf5(size.folder / "data.hdf5", data.data, {}, {"env_id": "PointMaze_UMaze-v3"})
    print(data.summary(), data.fingerprint)


def data_of(run: Path) -> Dataset:
    """What a run of the experiment has learnt from."""
    options: Any = run_configuration(run).dataset
    return load_hdf5(run / "dataset.hdf5").take_episodes(options.transitions, options.seed)


def train(size: Size, names: list[str]) -> None:
    """Train jsrl and evaluate both; every policy becomes a line of ``NAME.csv``."""
    for name in names:
        with open_table(size.results / f"{name}.csv", Score, versions(size)) as write:
            for score in scores(size, name):
                write(score)
                print(name, score, flush=True)


def scores(size: Size, name: str) -> Iterator[Score]:
    """Of all policies of a learner, jsrl's first."""
    run = train_jsrl(size, name)
    settings = env_settings(run_configuration(run.directory).env)
    envs = [make_env(settings) for _ in range(size.episodes)]
    for seed in size.seeds:
        policy = run.policy(seed, "guide")
        yield score(size, envs, "jsrl", seed, lambda seen, p=policy: p.predict(seen)[0])
    for library in TASKS[name].libraries[1:]:
        for seed in size.seeds:
            file = size.folder / f"{name}_{library}_{seed}.pt".replace(" ", "_")
            yield score(size, envs, library, seed, scripted(file))


def train_jsrl(size: Size, name: str) -> Any:
    """All seeds, side by side; a run that is there already is not repeated."""
    task = TASKS[name]
    run = jsrl.train(
        [
            *EXPERIMENT,
            *(f"seeds=[{','.join(map(str, size.seeds))}]", f"run_dir={size.folder / name}"),
            *(f"offline.updates={size.updates}", f"checkpoint.interval={size.updates}"),
            *("evaluation.episodes=1", "evaluation.final_episodes=1", f"learner={task.learner}"),
            *(f"learner.{key}={word(value)}" for key, value in task.options.items()),
        ]
    )
    of_theirs = load_hdf5(size.folder / "data.hdf5").fingerprint
    if data_of(run.directory).fingerprint != of_theirs:
        raise SystemExit(f"{run.directory} learnt from other data than {size.folder / 'data.hdf5'}")
    return run


def word(value: Any) -> str:
    """A value as the command line has it."""
    return "null" if value is None else str(value)


def scripted(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    """A policy that d3rlpy has saved, as a function of observations ``[n, O]``."""
    if not file.exists():
        raise SystemExit(f"{file} is not there; run train_d3rlpy.py first")
    policy = torch.jit.load(file)

    def act(seen: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return policy(torch.from_numpy(seen.astype(np.float32))).numpy()

    return act


def score(
    size: Size, envs: list[Any], library: str, seed: int, act: Callable[[np.ndarray], np.ndarray]
) -> Score:
    """Of a policy without noise, from the same start states for everyone."""
    seen = [env.reset(seed=FIRST_RESET_SEED + episode)[0] for episode, env in enumerate(envs)]
    returns, lengths, successes = np.zeros((3, len(envs)))
    running = list(range(len(envs)))
    while running:
        actions = act(np.stack([seen[episode] for episode in running]))
        going_on = []
        for episode, action in zip(running, actions, strict=True):
            seen[episode], reward, terminated, truncated, info = envs[episode].step(action)
            returns[episode] += reward
            lengths[episode] += 1
            successes[episode] = max(successes[episode], info["success"])
            if not (terminated or truncated):
                going_on.append(episode)
        running = going_on
    means = (float(np.mean(values)) for values in (successes, returns, lengths))
    return Score(library, seed, size.episodes, *means)


def versions(size: Size) -> dict[str, Any]:
    """Of what the figures come from; d3rlpy has an environment of its own."""
    ours = {"python": platform.python_version(), "processor": processor()}
    ours |= {module.__name__: module.__version__ for module in (torch, np, gymnasium)}
    return {"jsrl": ours, THEIRS: json.loads((size.folder / "versions.json").read_text())}


def print_tables(size: Size, names: list[str]) -> None:
    """What the README holds: every seed, and the answer to the primary question."""
    for name in names:
        rows = read_table(size.results / f"{name}.csv")
        of = {
            library: [row for row in rows if row["library"] == library]
            for library in TASKS[name].libraries
        }
        print(f"\n| {name} |", " | ".join(f"seed {seed}" for seed in size.seeds), end="")
        print(" | mean [95 %] | mean length |")
        print("|---" * (len(size.seeds) + 3) + "|")
        for library, found in of.items():
            values = [float(row["success"]) for row in found]
            low, high = interval(values)
            cells = " | ".join(f"{value:.2f}" for value in values)
            length = np.mean([float(row["mean_length"]) for row in found])
            mean = f"{np.mean(values):.3f} [{low:.3f}, {high:.3f}]"
            print(f"| {library} | {cells} | {mean} | {length:.0f} |")
        for library in TASKS[name].libraries[1:]:
            for measure in ("success", "mean_length"):
                ours, theirs = ([float(row[measure]) for row in of[x]] for x in ("jsrl", library))
                print(f"{measure}: {answer(float(np.mean(ours)), *interval(theirs))} of {library}.")


def answer(mean: float, low: float, high: float) -> str:
    """Where jsrl's mean lies."""
    where = "within" if low <= mean <= high else "above" if mean > high else "below"
    return f"jsrl's {mean:.3f} lies {where} [{low:.3f}, {high:.3f}]"


COMMANDS = {"data": write_data, "train": train, "tables": print_tables}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("folder", type=Path, help="of data and policies")
    parser.add_argument("names", nargs="*", help="learners; without any, all of them")
    parser.add_argument("--try", dest="tries", action="store_true", help="seeds 100 and 101 alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.folder.resolve()
    size = Size(folder, folder / "results", (100, 101), 20, 3) if given.tries else Size(folder)
    COMMANDS[given.command](size, given.names or list(TASKS))
