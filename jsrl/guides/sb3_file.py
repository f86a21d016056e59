"""What a Stable-Baselines3 zip says of itself before any code of it runs: plain JSON and text."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsrl.core.errors import UserError

VERSION = "_stable_baselines3_version"
"""The file in the zip that names the version that wrote it."""

CONTRIB = "sb3_contrib"
"""The package of the algorithms that are not in ``stable_baselines3`` itself."""

RECURRENT, MASKABLE = f"{CONTRIB}.common.recurrent.", f"{CONTRIB}.common.maskable."
"""Modules whose classes mark an algorithm that has the settings of another."""


@dataclass(frozen=True)
class Algorithm:
    """An algorithm of Stable-Baselines3 or sb3-contrib.

    Args:
        name: of its class.
        setting: a setting that it has, and none that stands behind it in ``ALGORITHMS``.
        package: that brings it.
        samples: whether its policy is a distribution, from which actions can be drawn.
    """

    name: str
    setting: str
    package: str = "stable_baselines3"
    samples: bool = True


RECURRENT_PPO = Algorithm("RecurrentPPO", "clip_range", CONTRIB)

ALGORITHMS = (
    Algorithm("TQC", "top_quantiles_to_drop_per_net", CONTRIB),
    Algorithm("QRDQN", "n_quantiles", CONTRIB, samples=False),
    Algorithm("TRPO", "cg_max_steps", CONTRIB),
    Algorithm("SAC", "target_entropy"),
    Algorithm("TD3", "target_policy_noise", samples=False),
    Algorithm("DQN", "exploration_rate", samples=False),
    Algorithm("PPO", "clip_range"),
    Algorithm("A2C", "gae_lambda"),
)
"""By the first of these settings that a file has; DDPG is TD3 with other settings."""

KNOWN = "SAC, TD3, DDPG, PPO, A2C and DQN, and RecurrentPPO, TQC, QRDQN and TRPO of sb3-contrib"


@dataclass(frozen=True)
class Sb3File:
    """A zip that Stable-Baselines3 has saved.

    Args:
        path: of the file.
        algorithm: that was saved.
        version: of Stable-Baselines3 that wrote it.
        noisy_state: whether it explores by gSDE, noise that depends on the state.
    """

    path: Path
    algorithm: Algorithm
    version: str
    noisy_state: bool

    @property
    def recurrent(self) -> bool:
        """Whether its policy has a memory."""
        return self.algorithm is RECURRENT_PPO


def read_sb3_file(path: Path) -> Sb3File:
    """What the zip ``path`` says of itself. Reading it runs no code.

    Raises:
        UserError: if it is missing, no such file, or of an algorithm that is not known.
    """
    key = f"guide.path={str(path)!r}"
    if not path.is_file():
        raise UserError(f"{key} does not exist; expected a zip that Stable-Baselines3 saved")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            data = json.loads(archive.read("data")) if "data" in names else None
            version = archive.read(VERSION).decode().strip() if VERSION in names else None
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise UserError(
            f"{key} is not a zip, or truncated; expected one that model.save of Stable-Baselines3 "
            "wrote"
        ) from error
    if "parameter_list" in names:
        raise UserError(
            f"{key} is of Stable-Baselines 2, which is written in TensorFlow; export its policy as "
            "ONNX there, and use guide=onnx"
        )
    if not isinstance(data, dict) or "policy.pth" not in names or version is None:
        raise UserError(
            f"{key} is no zip that model.save of Stable-Baselines3 wrote, or truncated: that has "
            f"data, policy.pth and {VERSION} in it"
        )
    return Sb3File(
        path,
        _algorithm(key, data),
        version,
        noisy_state=bool(data.get("use_sde")),
    )


def _algorithm(key: str, data: Mapping[str, Any]) -> Algorithm:
    modules = [_module(data.get("policy_class")), _module(data.get("rollout_buffer_class"))]
    if any(module.startswith(RECURRENT) for module in modules):
        return RECURRENT_PPO
    masked = any(module.startswith(MASKABLE) for module in modules)
    # It has all settings of SAC, but networks of its own.
    crossed = modules[0].startswith(f"{CONTRIB}.crossq.")
    found = next((a for a in ALGORITHMS if a.setting in data), None)
    if found is None or masked or crossed:
        raise UserError(
            f"{key} holds a policy of {modules[0] or 'an unknown class'}, whose algorithm is none "
            f"of those that guide=sb3 knows: {KNOWN}; use guide=python with an object that loads "
            "it and has act(observations)"
        )
    return found


def _module(stored: Any) -> str:
    """The module of a class as the file's JSON has it."""
    return str(stored.get("__module__", "")) if isinstance(stored, Mapping) else ""
