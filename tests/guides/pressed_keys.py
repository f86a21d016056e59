"""A person as the guide without a window: what presses the keys, and a task in which that happens.

SDL's dummy driver takes events that are posted, and shows nothing.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from guide_cases import UNIT
from small_runs import Reach

from jsrl.core.observations import Observation
from jsrl.core.processes import ALLOWED, UNUSED_KEYS
from jsrl.core.specs import DiscreteActions, EnvSpec
from jsrl.guides.human import HumanOptions
from jsrl.run.build import build_guide
from jsrl.settings.schema import EnvConfig

pygame = pytest.importorskip("pygame")
CHOICES = EnvSpec("Choices-v0", UNIT.observation, DiscreteActions(3, start=4), 50)
FRAME = np.zeros((30, 40, 3), np.uint8)


class Watched(Reach):
    """``Reach`` with a picture, in which keys are pressed by themselves.

    Every third step the other arrow is pressed, and escape once, in the step of number ``leaves``.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 30}
    steps = 0
    leaves = 0

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()
        self.render_mode = render_mode

    def reset(self, **keywords: Any) -> Any:
        found = super().reset(**keywords)
        self.clock = 0
        return found

    def step(self, action: Any) -> Any:
        found = super().step(action)
        self.clock += 1
        Watched.steps += 1
        if Watched.steps == Watched.leaves:
            press(pygame.K_ESCAPE)
        return found

    def render(self) -> np.ndarray:
        # What is held follows from the episode alone, so that it can be pressed again.
        keys = (pygame.K_LEFT, pygame.K_RIGHT)
        held = keys[int(self.clock // 3 + (self.position[0] > 0)) % 2]
        for key in keys:
            press(key, down=key == held)
        return np.full((20, 30, 3), self.clock, np.uint8)


gym.register("jsrl-tests/Watched-v0", Watched, max_episode_steps=60)
WATCHED = ("env=gymnasium", "env.id=jsrl-tests/Watched-v0", "env.score_range=[0,1]")
RUN = (
    *(*WATCHED, "dataset=none", "offline.updates=0", "online.offline_fraction=0", "guide=human"),
    *("guide.frames_per_second=100000", "curriculum=random", "curriculum.initial_guide_steps=20"),
    *("curriculum.stages=2", "online.steps=120", "online.updates_per_step=0.1"),
)


def press(key: int, down: bool = True) -> None:
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN if down else pygame.KEYUP, key=key))


@pytest.fixture(autouse=True)
def without_a_window(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No window, and nobody has pressed anything; whoever imports it gets it in every test."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv(UNUSED_KEYS, ALLOWED)
    Watched.steps = Watched.leaves = 0
    yield
    pygame.quit()


def human(spec=UNIT, **options):
    options.setdefault("frames_per_second", 100_000.0)
    made = HumanOptions("human", **options)
    return build_guide(made, EnvConfig(id=spec.id), spec, [0], torch.device("cpu"))


def act(guide, rows=1):
    mask = torch.ones(1, rows, dtype=torch.bool)
    guide.show([FRAME])
    return guide.act(Observation(torch.zeros(1, rows, 5)), None, mask)[0, 0].tolist()
