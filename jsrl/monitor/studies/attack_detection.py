"""Which families of the monitor's statistics notice an attack."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from jsrl.core.streams import seed_sequence
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.detectors.detector import compare
from jsrl.monitor.detectors.findings import DetectorSettings

JOINT = "joint"
"""The name of the decision over all families."""


@dataclass(frozen=True)
class WindowSettings:
    """How attacked samples are tested.

    Args:
        reference: how many trusted episodes they are compared with; of a classifier, requests.
        window: how many episodes, or requests, are tested together.
        permutations: how many splits each test draws.
        level: the level of each test.
    """

    reference: int = 60
    window: int = 3
    permutations: int = 999
    level: float = 0.05


def family_p_values(
    reference: Sample, window: Sample, permutations: int, seed: int
) -> dict[str, float]:
    """The p-value of each family alone, and of all of them together, for the same episodes.

    Where something is not finite, that is 0 and no family is asked.

    Args:
        reference: trusted episodes, numbered from 0.
        window: those that are tested, numbered from 0.
        permutations: how many splits are drawn.
        seed: of the splits.
    """
    state = seed_sequence(seed, "attack", "splits").generate_state(1)
    generator = torch.Generator().manual_seed(int(state[0]))
    found = compare(reference, window, DetectorSettings(permutations), generator)
    return {JOINT: found.p_value} | found.families


def rejections(
    reference: Sequence[Sample], tested: Sequence[Sample], settings: WindowSettings
) -> dict[str, float]:
    """The share of windows that each family rejects; nothing where no window is full.

    Args:
        reference: trusted episodes.
        tested: the episodes in question, of which a rest that fills no window is left out.
        settings: of the tests.
    """
    trusted = Sample.concatenate(reference, renumber=True)
    starts = range(0, len(tested) - settings.window + 1, settings.window)
    p_values = []
    for start in starts:
        window = Sample.concatenate(tested[start : start + settings.window], renumber=True)
        p_values.append(family_p_values(trusted, window, settings.permutations, start))
    names = dict.fromkeys(name for entry in p_values for name in entry)
    return {
        name: sum(entry.get(name, entry[JOINT]) <= settings.level for entry in p_values)
        / len(p_values)
        for name in names
    }
