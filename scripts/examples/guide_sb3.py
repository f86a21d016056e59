"""A policy of Stable-Baselines3 as a guide (``pip install 'jsrl-torch[sb3]'``).

    python scripts/examples/guide_sb3.py policy.zip
    jsrl train env=gymnasium env.id=Pendulum-v1 env.success_key=null curriculum.metric=return \
        learner=sac dataset=none offline.updates=0 guide=sb3 guide.path=policy.zip
"""

import sys

from stable_baselines3 import SAC


def save_policy(path: str, steps: int = 5000) -> None:
    """Train a policy in Pendulum-v1, and save it."""
    model = SAC("MlpPolicy", "Pendulum-v1", learning_starts=1000, seed=0)
    model.learn(steps)
    model.save(path)


if __name__ == "__main__":
    save_policy(sys.argv[1])
