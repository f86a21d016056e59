"""States of the Adroit hands in which the task is solved, and small files of demonstrations."""

from pathlib import Path

import gymnasium as gym
import h5py
import numpy as np

from jsrl.envs.registration import adroit_id

HUMAN_DOOR = Path(__file__).parents[1] / "../shared/data/adroit_door_human.hdf5"
"""D4RL's door-human, which some machines have beside a checkout."""

KEPT = {
    "door": ("qpos", "qvel", "door_body_pos"),
    "pen": ("qpos", "qvel", "desired_orien"),
    "relocate": ("qpos", "qvel", "obj_pos", "target_pos"),
}
"""What ``set_env_state`` takes of what ``get_env_state`` gives."""


def solved_state(task, env):
    """A state of ``env``, which was reset, in which the task is solved for a step at least."""
    full = env.unwrapped.hand.get_env_state()
    state = {name: full[name] for name in KEPT[task]}
    if task == "door":
        state["qpos"][28] = 1.5
    elif task == "pen":
        # The pen lies along x, the pen that shows the goal stands along z until it is turned.
        state["desired_orien"] = np.sqrt([0.5, 0.0, 0.5, 0.0])
    else:
        state["target_pos"] = state["obj_pos"] + [0, 0, 0.05]
    return state


def write_demonstrations(path, task="door", episodes=3, steps=12, solve=(1,), spill=1.2):
    """Random motion in D4RL's layout, without next observations; dense rewards play no part.

    Args:
        solve: the episodes that start where the task is solved.
        spill: the largest action; the hand clips it, the file keeps it.
    """
    env = gym.make(adroit_id(task), max_episode_steps=steps)
    rng = np.random.default_rng(0)
    rows, successes = [], []
    for episode in range(episodes):
        observation, _ = env.reset(seed=episode)
        if episode in solve:
            options = {"initial_state_dict": solved_state(task, env)}
            observation, _ = env.reset(seed=episode, options=options)
        over = False
        while not over:
            action = rng.uniform(-spill, spill, env.action_space.shape).astype(np.float32)
            successor, _, _, over, info = env.step(action)
            rows.append((observation, action, over))
            successes.append(info["success"])
            observation = successor
    env.close()
    observations, actions, timeouts = (np.stack(c) for c in zip(*rows, strict=True))
    with h5py.File(path, "w") as file:
        file["observations"] = observations.astype(np.float32)
        file["actions"] = actions
        file["rewards"] = np.full(len(rows), 7.5, np.float32)
        file["terminals"] = np.zeros(len(rows), bool)
        file["timeouts"] = timeouts
    # Without a stored successor a loader drops the last step of each episode.
    return np.array(successes)[~timeouts]
