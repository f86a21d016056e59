"""Statistics over seeds, and of how far runs differ that differ only in chance."""

from jsrl.statistics.differences import (
    action_differences,
    choice_flips,
    mean_over_pairs,
    rank_flips,
    relative_differences,
    relative_prediction_difference,
    return_differences,
    value_differences,
)
from jsrl.statistics.replicas import (
    interval_of,
    mean_centred_means,
    pair_means,
    ratio_interval,
    resampled_runs,
)
from jsrl.statistics.seeds import (
    Summary,
    bootstrap_interval,
    episodes_interval,
    expanded_interval,
    improvement_interval,
    interquartile_mean,
    interquartile_mean_interval,
    mean_intervals,
    probability_of_improvement,
    summarise,
)

__all__ = [
    "Summary",
    "action_differences",
    "bootstrap_interval",
    "choice_flips",
    "episodes_interval",
    "expanded_interval",
    "improvement_interval",
    "interquartile_mean",
    "interquartile_mean_interval",
    "interval_of",
    "mean_centred_means",
    "mean_intervals",
    "mean_over_pairs",
    "pair_means",
    "probability_of_improvement",
    "rank_flips",
    "ratio_interval",
    "relative_differences",
    "relative_prediction_difference",
    "resampled_runs",
    "return_differences",
    "summarise",
    "value_differences",
]
