"""The guide takes over while the explorer's inputs are not like those of trusted episodes.

The last few observations are described by the mean and the logarithm of the standard deviation of
every column, as in Shewhart's charts: a sensor that is biased or rescaled leaves the range of the
means, one that is stuck, noisy or drops out that of the deviations. The threshold is conformal,
with whole episodes as in FAIL-Detect (Xu et al. 2025, arXiv 2503.08558): the first half of the
trusted episodes give the ranges, and each of the other n its worst excess. An alarm is an excess
above the m-th largest of these, m being the largest number with m/(n + 1) ≤ level.

So in an episode that might as well be one of the trusted ones, the probability of any alarm is at
most ``level``, however its steps depend on one another. An explorer that learns goes where no
trusted episode has been. Episodes without any alarm therefore widen the ranges, but not the widths
in which an excess is measured, so that this can only make alarms rarer. Nothing is noticed that
stays within all ranges, or that was there in the trusted episodes already. The monitor of a run
(``monitor=on``) is another one: it tests whole episodes once they have ended, by the policy's
layers too, and lets the run go on as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from jsrl.core.arbitration import DATA, ArbiterState, Beginning, Decision
from jsrl.core.errors import UserError
from jsrl.core.ranges import at_least, one_of
from jsrl.core.specs import EnvSpec
from jsrl.core.streams import Streams
from jsrl.jumpstart.arbiters.base import ArbiterOptions, Rule, arbiters
from jsrl.statistics.windows import (
    all_stretches,
    allowed_exceedances,
    described,
    excess,
    fewest_for,
)

RANGED, CALIBRATED, LARGEST = "episodes of ranges", "episodes of threshold", "largest excesses"
LOW, HIGH, WIDTH = "low", "high", "width"
STRETCH, SEEN, USE, WORST, ALARMED = "stretch", "seen", "use", "worst excess", "alarmed"
OWN_LOW, OWN_HIGH = "low of episode", "high of episode"

AT_BEGIN = {SEEN: 0, WORST: 0, ALARMED: False, OWN_LOW: torch.inf, OWN_HIGH: -torch.inf}
"""What is known of an episode that begins."""

RANGING, CALIBRATING, WATCHED, NEITHER = range(4)
"""What an episode is for: the ranges, the threshold, or to be watched; or it began in between."""


@dataclass
class MonitorOptions(ArbiterOptions):
    """Of ``arbiter=monitor``."""

    # At most so probable is any alarm in an episode that is like the trusted ones.
    level: float = 0.05
    # Steps that are looked at together; before as many have been seen there is no alarm.
    window: int = 10
    # How many episodes are trusted: half of them for the ranges, half for the threshold.
    episodes: int = 40
    # Which these are: those of the data, or the first of training, where the explorer acts alone.
    trust: str = "data"

    advice = "monitor=on has another monitor, with options of its own"

    @property
    def calibrating(self) -> int:
        return self.episodes // 2

    @property
    def exceeding(self) -> int:
        """m of the threshold."""
        return allowed_exceedances(self.level, self.calibrating)

    def check(self) -> None:
        super().check()
        one_of("arbiter.trust", self.trust, ("data", "training"))
        at_least("arbiter.window", self.window, 2)
        if not 0 < self.level < 1:
            raise UserError(f"arbiter.level={self.level} must lie between 0 and 1")
        least = 2 * fewest_for(self.level)
        if self.episodes < least:
            raise UserError(
                f"arbiter.episodes={self.episodes} are too few for arbiter.level={self.level}; use "
                f"arbiter.episodes={least} or more, or a higher level"
            )

    def check_environment(self, spec: EnvSpec) -> None:
        super().check_environment(spec)
        if spec.observation.size == 0:
            raise UserError(
                f"arbiter=monitor looks at the numbers of observations, and {spec.id} has images "
                "alone; choose another arbiter"
            )
        if spec.max_episode_steps < self.window:
            raise UserError(
                f"arbiter.window={self.window} is longer than the episodes of {spec.id}, which "
                f"have at most {spec.max_episode_steps} steps; lower it"
            )


@arbiters.register("monitor", MonitorOptions)
class InputMonitor(Rule):
    """The guide acts iff the last observations exceed the ranges by more than the threshold.

    Args:
        options: see ``MonitorOptions``.
    """

    watched = frozenset({STRETCH, SEEN, USE, WORST, ALARMED, OWN_LOW, OWN_HIGH})

    def __init__(self, options: MonitorOptions) -> None:
        self.options = options
        self.needs = frozenset({DATA} if options.trust == "data" else ())
        self._ranging = options.episodes - options.calibrating

    def fresh(self, num_seeds: int, num_envs: int) -> ArbiterState:
        """No episode is trusted; ranges come with the first observation, which has a size."""
        shape, many = (num_seeds, num_envs), self.options.exceeding
        seeds = {
            RANGED: torch.zeros(num_seeds, dtype=torch.int64),
            CALIBRATED: torch.zeros(num_seeds, dtype=torch.int64),
            LARGEST: torch.full((num_seeds, many), -torch.inf, dtype=torch.float64),
        }
        episodes = {
            SEEN: torch.zeros(shape, dtype=torch.int64),
            USE: torch.full(shape, NEITHER),
            WORST: torch.zeros(shape, dtype=torch.float64),
            ALARMED: torch.zeros(shape, dtype=torch.bool),
        }
        return ArbiterState(seeds, episodes)

    def trust(self, episodes: Sequence[Float[Tensor, "_ O"]], state: ArbiterState) -> ArbiterState:
        """The first episodes of the data are those that every seed trusts."""
        o, count = self.options, len(state.seeds[RANGED])
        if len(episodes) < o.episodes:
            raise UserError(
                f"arbiter.episodes={o.episodes} are to be trusted, but the dataset has "
                f"{len(episodes)}; use fewer, at least {2 * fewest_for(o.level)} with "
                f"arbiter.level={o.level}, or arbiter.trust=training"
            )
        found = [all_stretches(episode.double(), o.window) for episode in episodes[: o.episodes]]
        ranging = torch.cat(found[: self._ranging])
        if len(ranging) == 0:
            raise UserError(
                f"arbiter.window={o.window} is longer than all episodes of the dataset that are to "
                "be trusted; lower it"
            )
        low, high = ranging.amin(0), ranging.amax(0)
        worst = [excess(part, low, high, high - low) for part in found[self._ranging :]]
        # An episode that is shorter than the window exceeds nothing.
        largest = torch.stack([torch.cat([w, w.new_zeros(1)]).amax() for w in worst])
        values = {
            RANGED: torch.tensor(self._ranging),
            CALIBRATED: torch.tensor(o.calibrating),
            LARGEST: largest.topk(o.exceeding).values,
            LOW: low,
            HIGH: high,
            WIDTH: high - low,
        }
        seeds = {name: torch.stack([value] * count) for name, value in values.items()}
        return ArbiterState(seeds, state.episodes)

    def begin(self, beginning: Beginning, state: ArbiterState, streams: Streams) -> ArbiterState:
        """Of the episodes that ended one learns what they were for; then others begin."""
        seeds, own = self._learnt(beginning.finished, state), dict(state.episodes)
        own[USE] = self._uses(beginning.mask, own[USE], seeds)
        for name, value in AT_BEGIN.items():
            if name in own:
                mask = beginning.mask.view(*own[USE].shape, *[1] * (own[name].dim() - 2))
                own[name] = own[name].masked_fill(mask, value)
        return ArbiterState(seeds, own)

    def decide(
        self, moment: Decision, state: ArbiterState, streams: Streams
    ) -> tuple[Float[Tensor, "S E"], ArbiterState]:
        vector = moment.observation.vector.cpu().double()
        seeds, own = self._sized(state, vector.shape[-1])
        stretch = torch.cat([own[STRETCH][:, :, 1:], vector.unsqueeze(2)], 2)
        features, seen = described(stretch), own[SEEN] + 1
        whole = seen >= self.options.window
        compared = whole & (own[USE] != RANGING) & (own[USE] != NEITHER)
        found = excess(features, *(seeds[name].unsqueeze(1) for name in (LOW, HIGH, WIDTH)))
        found = torch.where(compared, found, 0.0)
        found = torch.where(vector.isfinite().all(-1), found, torch.inf)
        alarm = (own[USE] == WATCHED) & (found > seeds[LARGEST].amin(1, keepdim=True))
        wide = whole.unsqueeze(-1)
        own |= {
            STRETCH: stretch,
            SEEN: seen,
            WORST: torch.maximum(own[WORST], found),
            ALARMED: own[ALARMED] | alarm,
            OWN_LOW: torch.fmin(own[OWN_LOW], torch.where(wide, features, torch.inf)),
            OWN_HIGH: torch.fmax(own[OWN_HIGH], torch.where(wide, features, -torch.inf)),
        }
        return (~alarm).float(), ArbiterState(seeds, own)

    def _sized(self, state: ArbiterState, size: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The memory, with what has the size of observations, if that was not known before."""
        seeds, own = dict(state.seeds), dict(state.episodes)
        shape, features = own[SEEN].shape, 2 * size
        worst = own[WORST]
        for part, low, high, of in (
            (seeds, LOW, HIGH, shape[:1]),
            (own, OWN_LOW, OWN_HIGH, shape),
        ):
            if low not in part:
                part[low] = worst.new_full((*of, features), torch.inf)
                part[high] = worst.new_full((*of, features), -torch.inf)
        if WIDTH not in seeds:
            seeds[WIDTH] = worst.new_zeros((shape[0], features))
        if STRETCH not in own:
            own[STRETCH] = worst.new_zeros((*shape, self.options.window, size))
        return seeds, own

    def _learnt(self, finished: Bool[Tensor, "S E"], state: ArbiterState) -> dict[str, Tensor]:
        """What is known of each seed, once these episodes have ended."""
        seeds, own = dict(state.seeds), state.episodes
        if LOW not in seeds or OWN_LOW not in own:
            return seeds
        # Episodes in which the rule was not asked, or that are not finite, are not to be trusted.
        counts = finished & (own[SEEN] > 0) & own[WORST].isfinite()
        ranging, calibrating = (counts & (own[USE] == use) for use in (RANGING, CALIBRATING))
        widens = (ranging | (counts & (own[USE] == WATCHED) & ~own[ALARMED])).unsqueeze(-1)
        low = torch.where(widens, own[OWN_LOW], torch.inf).amin(1)
        high = torch.where(widens, own[OWN_HIGH], -torch.inf).amax(1)
        worst = torch.where(calibrating, own[WORST], -torch.inf)
        largest = torch.cat([seeds[LARGEST], worst], 1).topk(self.options.exceeding)
        low, high = torch.minimum(seeds[LOW], low), torch.maximum(seeds[HIGH], high)
        has_ranges = (seeds[RANGED] >= self._ranging).unsqueeze(1)
        return seeds | {
            LOW: low,
            HIGH: high,
            WIDTH: torch.where(has_ranges, seeds[WIDTH], high - low),
            LARGEST: largest.values,
            RANGED: seeds[RANGED] + ranging.sum(1),
            CALIBRATED: seeds[CALIBRATED] + calibrating.sum(1),
        }

    def _uses(
        self, mask: Bool[Tensor, "S E"], before: Int[Tensor, "S E"], seeds: dict[str, Tensor]
    ) -> Int[Tensor, "S E"]:
        """What the episodes are for that begin where ``mask``, the first environments first.

        No more are begun for a purpose than it needs: of several environments the short episodes
        end first, and they differ from the others.
        """
        going = before.masked_fill(mask, NEITHER)
        ranges = self._ranging - seeds[RANGED]
        threshold = self.options.calibrating - seeds[CALIBRATED]
        use = torch.full_like(ranges, WATCHED).masked_fill(threshold > 0, CALIBRATING)
        use = use.masked_fill(ranges > 0, RANGING).unsqueeze(1)
        wanted = torch.where(ranges > 0, ranges, threshold).unsqueeze(1)
        free = wanted - (going == use).sum(1, keepdim=True)
        fits = (mask.cumsum(1) <= free) | (use == WATCHED)
        return torch.where(mask, torch.where(fits, use, NEITHER), going)
