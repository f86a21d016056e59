"""The summary that a run writes at its end, ``summary.json``."""

import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jsrl.rollout.scores import PolicyScores
from jsrl.statistics import summarise

try:
    import resource
except ImportError:
    resource = None  # type: ignore[assignment]  # not on Windows

PACKAGES = ("torch", "gymnasium", "gymnasium-robotics", "mujoco", "numpy", "hydra-core")
MODES = ("guide", "combined", "exploration")
MEASURES = ("return", "success", "length", "normalized_score")
SAID = ("success", "return")
"""What is printed of a policy at the end."""


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package, and of the packages that results depend on.

    A checkout adds its commit, with a plus sign where the package or its configuration was changed
    since.
    """
    found = {"python": platform.python_version()} | _commit()
    for package in ("jsrl-torch", *PACKAGES):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _commit() -> dict[str, str]:
    root = Path(__file__).parents[2]
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


def peak_memory_mib() -> float | None:
    """Return the largest resident memory of this process so far in MiB; None if it is not known."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def summarise_evaluations(
    evaluations: Mapping[str, PolicyScores], num_seeds: int
) -> dict[str, Any]:
    """Return mean, interquartile mean, intervals and every seed's value of each mode and measure.

    ``ci95`` is the interval over seeds, and ``episodes_ci95`` that of every seed over its episodes.
    """
    missing = PolicyScores({}, {}, 0)
    nothing: list[None] = [None] * num_seeds
    return {
        mode: {
            measure: {
                **summarise(evaluations.get(mode, missing).per_seed.get(measure, nothing)),
                "episodes_ci95": evaluations.get(mode, missing).intervals.get(measure, nothing),
            }
            for measure in MEASURES
        }
        for mode in MODES
    }


def final_line(summary: Mapping[str, Any], directory: Path) -> str:
    """Write success and return of the three policies as ``mean [low, high]``, where defined."""
    several = len(summary["seeds"]) > 1
    parts = []
    for mode, measures in summary["evaluation"].items():
        found = {name: value_with_interval(measures[name], several) for name in SAID}
        said = [f"{name} {value}" for name, value in found.items() if value]
        if said:
            parts.append(f"{mode} {', '.join(said)}")
    over = f"{len(summary['seeds'])} seeds" if several else "the episodes of one seed"
    intervals = f" (95 % intervals over {over})" if "[" in "".join(parts) else ""
    return f"finished: {'; '.join(parts)}{intervals}; see {directory}"


def value_with_interval(measure: Mapping[str, Any], over_seeds: bool) -> str:
    """Write ``0.81 [0.72, 0.88]``, over seeds or over the one seed's episodes.

    The text is empty where the value is undefined.
    """
    if measure["mean"] is None:
        return ""
    interval = measure["ci95"] if over_seeds else measure.get("episodes_ci95", [None])[0]
    shown = "" if interval is None else f" [{interval[0]:.3g}, {interval[1]:.3g}]"
    return f"{measure['mean']:.3g}{shown}"
