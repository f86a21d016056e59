"""The schemas of ``jsrl dataset FAMILY``, one a family, registered with Hydra."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from jsrl.config import EnvConfig, GuideConfig


@dataclass
class PointMazeDataConfig:
    """``jsrl dataset pointmaze path=FILE``: rollouts of the waypoint controller in a maze."""

    path: str = MISSING
    transitions: int = 3000
    seed: int = 0
    noise: float = 0.5
    proportional_gain: float = 3.0
    derivative_gain: float = 0.5
    env: EnvConfig = MISSING


@dataclass
class AntMazeDataConfig:
    """``jsrl dataset antmaze env=antmaze_umaze_diverse guide=npz guide.path=FILE``.

    ``workers`` null is one for each core. ``noise`` is the standard deviation of the Gaussian
    noise on actions.
    """

    path: str = MISSING
    transitions: int = 1_000_000
    seed: int = 0
    noise: float = 0.2
    workers: int | None = None
    env: EnvConfig = MISSING
    guide: GuideConfig = MISSING


@dataclass
class BehaviourCloningConfig:
    """``noise`` is the standard deviation of the Gaussian noise on actions of the rollouts.

    On the 25 human demonstrations of door, four seeds of these defaults open it in 8 % of rollouts
    (0 to 18 %); 2,000 updates without dropout in 3 %, and 20,000 in none (one seed, noise 0.1).
    """

    updates: int = 5000
    dropout: float = 0.1
    noise: float = 0.05


@dataclass
class AdroitDataConfig:
    """``jsrl dataset adroit env=adroit_door demonstrations=FILE``.

    ``demonstrations``: a file in D4RL's layout, a D4RL name or a Minari id; null for none. With
    ``guide=none`` the rollouts are those of their clone, else of the guide.
    """

    path: str = MISSING
    transitions: int = 100_000
    seed: int = 0
    demonstrations: str | None = None
    behaviour_cloning: BehaviourCloningConfig = field(default_factory=BehaviourCloningConfig)
    env: EnvConfig = MISSING
    guide: GuideConfig = MISSING


@dataclass
class DatasetReportConfig:
    """``jsrl dataset report path=FILE``: a file, a D4RL name or a Minari id.

    ``output`` null writes beside the file, or for a name into the working folder.
    """

    path: str = MISSING
    output: str | None = None
    clip_actions: bool = False


FAMILIES: dict[str, Any] = {
    "pointmaze": PointMazeDataConfig,
    "antmaze": AntMazeDataConfig,
    "adroit": AdroitDataConfig,
    "report": DatasetReportConfig,
}
"""The schema of each word that may follow ``jsrl dataset``."""


def register() -> None:
    """Make the schemas known to Hydra, as ``dataset_FAMILY_schema``."""
    for name, schema in FAMILIES.items():
        ConfigStore.instance().store(name=f"dataset_{name}_schema", node=schema, provider="jsrl")
