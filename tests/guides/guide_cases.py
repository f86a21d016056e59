"""Small environments' specifications and policies that the guide tests share."""

import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from specs import bounded, box_spec

from jsrl.core.loading import load_module
from jsrl.core.observations import Observation
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams
from jsrl.envs.make import EnvSettings
from jsrl.guides import GuideInputs, guides
from jsrl.networks.layers import INITIALISATIONS
from jsrl.networks.policies import GaussianPolicy
from jsrl.networks.seed_policy import SeedPolicy

SPEC = box_spec(
    "Fake-v0", (("desired_goal", 0, 2), ("observation", 2, 5)), (-2.0, -2.0), (2.0, 2.0), 50
)

UNIT = bounded(SPEC, "Unit-v0", (-1.0, -1.0), (1.0, 1.0))
"""Takes actions as policies give them."""


def random_policy(
    seeds: list[int], observation_size: int = 5, action_size: int = 2
) -> GaussianPolicy:
    """Randomly initialised policies: seed i's weights depend on seed i alone."""
    policy = GaussianPolicy(len(seeds), observation_size, action_size, hidden=(16, 16))
    policy.mlp.initialise(INITIALISATIONS["pytorch"], Streams(seeds), "actor")
    return policy


def write_checkpoint(
    path: Path,
    seeds: list[int],
    observation_size: int = 5,
    action_size: int = 2,
    **changes: object,
) -> GaussianPolicy:
    """Write a checkpoint of random policies; returns them."""
    policy = random_policy(seeds, observation_size, action_size)
    environment = {
        "observation_size": observation_size,
        "action_size": action_size,
        "layout": [list(part) for part in SPEC.observation.layout],
    }
    write_policy(path, policy, seeds, **{"environment": environment, **changes})
    return policy


def write_policy(path: Path, policy: SeedPolicy, seeds: list[int], **changes: object) -> None:
    """Write a checkpoint that holds this exploration-policy; ``environment`` is to be given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "format": "jsrl-checkpoint",
        "version": 1,
        "seeds": seeds,
        "policies": {
            "exploration": {"description": policy.describe(), "state": policy.state_dict()}
        },
    }
    torch.save({**content, **changes}, path)


def observations(seeds: int, environments: int, size: int = 5) -> Observation:
    """Random vectors ``[S, E, O]``."""
    generator = torch.Generator().manual_seed(5)
    return Observation(torch.randn(seeds, environments, size, generator=generator))


EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"


def example(name: str) -> ModuleType:
    """An example of ``scripts/examples``, imported."""
    return load_module(str(EXAMPLES / f"{name}.py"), "example")


def documented_words(module: ModuleType, path: Path) -> list[str]:
    """The words of the ``jsrl train`` that an example documents, with ``path`` for its file."""
    text = str(module.__doc__).replace("\\\n", " ")
    command = next(line for line in text.splitlines() if line.strip().startswith("jsrl train"))
    words = shlex.split(command)[2:]
    return [f"guide.path={path}" if word.startswith("guide.path=") else word for word in words]


def built(kind: str, spec: EnvSpec, **options: Any) -> Any:
    """The guide of ``guide=KIND`` for one seed, as a run makes it."""
    inputs = GuideInputs(spec, [0], torch.device("cpu"), EnvSettings(spec.id))
    return guides.build(guides[kind].options(kind=kind, **options), inputs)


def act_step_by_step(guide: Any, vectors: torch.Tensor, begins: torch.Tensor) -> torch.Tensor:
    """Actions ``[T, S, E, A]`` for vectors ``[T, S, E, O]``; episodes begin at ``begins``."""
    found = []
    for step, begin in zip(vectors, begins, strict=True):
        if begin.any():
            guide.reset(begin)
        found.append(guide.act(Observation(step), None, torch.ones_like(begin)))
    return torch.stack(found)


def episodes(
    steps: int, seeds: int, environments: int, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random vectors ``[T, S, E, O]``, and where episodes begin: at first, and here and there."""
    generator = torch.Generator().manual_seed(3)
    vectors = torch.randn(steps, seeds, environments, size, generator=generator)
    begins = torch.rand(steps, seeds, environments, generator=generator) < 0.3
    begins[0] = True
    return vectors, begins
