"""The environments of this package, made known to Gymnasium by ``import jsrl``.

Names and time limits alone: the simulator is imported when one of them is made.
"""

import gymnasium as gym

ANTMAZE_TASKS = {
    "umaze": ("umaze", 700),
    "umaze-diverse": ("umaze", 700),
    "medium-play": ("medium", 1000),
    "medium-diverse": ("medium", 1000),
    "large-play": ("large", 1000),
    "large-diverse": ("large", 1000),
}
"""Map and time limit of each task. `play` and `diverse` name data; the environment is the same."""

ADROIT_TASKS = {"door": 200, "pen": 100, "relocate": 200}
"""Time limit of each task: those of Rajeswaran et al. 2018, which D4RL kept."""

SEEN_MAZES = {"umaze": 300, "medium": 600}
"""Time limit of each point maze that is seen from above: those of gymnasium-robotics' PointMaze."""

LOCK_ID = "jsrl/lock-v0"
"""The combination lock, whose length is an argument."""

LONGEST_LOCK = 10_000
"""Its time limit, which no lock is longer than: a lock ends by itself."""


def antmaze_id(task: str) -> str:
    """The Gymnasium id of one of ``ANTMAZE_TASKS``."""
    return f"jsrl/antmaze-{task}-v0"


def adroit_id(task: str) -> str:
    """The Gymnasium id of one of ``ADROIT_TASKS``."""
    return f"jsrl/{task}-binary-v0"


def seen_maze_id(maze: str) -> str:
    """The Gymnasium id of one of ``SEEN_MAZES``."""
    return f"jsrl/pointmaze-{maze}-seen-v0"


def register() -> None:
    """Register every environment of this package with Gymnasium."""
    for task, (maze, steps) in ANTMAZE_TASKS.items():
        gym.register(
            antmaze_id(task),
            entry_point="jsrl.envs.antmaze:AntMazeEnv",
            kwargs={"maze": maze},
            max_episode_steps=steps,
        )
    for task, steps in ADROIT_TASKS.items():
        gym.register(
            adroit_id(task),
            entry_point="jsrl.envs.adroit:AdroitBinaryEnv",
            kwargs={"task": task},
            max_episode_steps=steps,
        )
    for maze, steps in SEEN_MAZES.items():
        gym.register(
            seen_maze_id(maze),
            entry_point="jsrl.envs.seen_maze:SeenMazeEnv",
            kwargs={"maze": maze},
            max_episode_steps=steps,
        )
    gym.register(LOCK_ID, entry_point="jsrl.envs.lock:LockEnv", max_episode_steps=LONGEST_LOCK)
