"""What a run says of itself at its end: ``summary.json``."""

import platform
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jsrl.statistics import summarise

PACKAGES = ("torch", "gymnasium", "gymnasium-robotics", "mujoco", "numpy", "hydra-core")
MODES = ("guide", "combined", "exploration")
MEASURES = ("return", "success", "length", "normalized_score")


def versions() -> dict[str, str]:
    """Versions of Python, this package and those that results depend on.

    In a checkout also the commit, with a plus sign where the package or its configuration was
    changed since.
    """
    found = {"python": platform.python_version()} | _commit()
    for package in ("jsrl-torch", *PACKAGES):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _commit() -> dict[str, str]:
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return {}
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--", "jsrl", "configs")
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": commit + ("+" if changed else "")}


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def peak_memory_mib() -> float:
    """The largest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def normalized_scores(
    means: Mapping[str, Sequence[float]], metric: str, score_range: Sequence[float] | None
) -> list[float]:
    """100·(value - low)/(high - low) of each seed; NaN where there is no range (Fu et al. 2020)."""
    values = means[metric]
    if score_range is None:
        return [float("nan")] * len(values)
    low, high = score_range
    return [100 * (value - low) / (high - low) for value in values]


def summarise_evaluations(
    evaluations: Mapping[str, Mapping[str, Sequence[float]]], num_seeds: int
) -> dict[str, Any]:
    """For each mode and measure: mean, interquartile mean, interval, and every seed's value."""
    missing: list[None] = [None] * num_seeds
    return {
        mode: {
            measure: summarise(evaluations.get(mode, {}).get(measure, missing))
            for measure in MEASURES
        }
        for mode in MODES
    }
