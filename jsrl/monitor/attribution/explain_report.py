"""The report of ``jsrl explain``: tables, all numbers as JSON, and a picture of the columns."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jsrl.core.files import write_whole
from jsrl.core.pictures import new_figure, png
from jsrl.monitor.attribution.agreement import CATEGORIES, NO_ATTRIBUTION, declared_groups
from jsrl.monitor.attribution.study import Answer, Question, StepsSeen, mean_summary
from jsrl.report.figures import COLOURS
from jsrl.report.tables import UNDEFINED, markdown_table

MOST_BARS = 40
"""Of more groups of columns the strongest are drawn."""

POLICY, CONTROL = "policy", "random weights"


@dataclass(frozen=True)
class SeedReport:
    """What there is of one seed.

    Args:
        seed: of the policy.
        steps: that are explained.
        policy: what the policy looks at in them.
        controls: what networks with random weights look at in them.
    """

    seed: int
    steps: StepsSeen
    policy: Answer
    controls: Sequence[Answer]

    def summaries(self) -> dict[str, dict[str, Any] | None]:
        """Of the policy, and the mean of the controls."""
        return {POLICY: self.policy.summary(), CONTROL: mean_summary(self.controls)}


def write_explain_report(
    folder: Path,
    reports: Sequence[SeedReport],
    question: Question,
    names: Sequence[str],
    of: Mapping[str, Any],
) -> str:
    """Write ``explain.json``, ``explain.md`` and ``explain.png``.

    Args:
        folder: where.
        reports: of all seeds.
        question: what was asked.
        names: of the columns.
        of: what was explained, and how, for the JSON.

    Returns:
        The tables, to print.
    """
    groups = [" = ".join(names[column] for column in group) for group in question.groups]
    declared = declared_groups(question.groups, question.relevant).tolist()
    text = explain_tables(reports, groups, declared)
    record = {
        **of,
        "columns": [
            {"name": name, "columns": list(group), "declared": marked}
            for name, group, marked in zip(groups, question.groups, declared, strict=True)
        ],
        "seeds": [_record(report) for report in reports],
    }
    content = json.dumps(record, indent=1, allow_nan=False) + "\n"
    write_whole(folder / "explain.json", content.encode())
    write_whole(folder / "explain.md", (text + "\n").encode())
    write_whole(folder / "explain.png", _bars(reports, groups, declared))
    return text


def explain_tables(
    reports: Sequence[SeedReport], groups: Sequence[str], declared: Sequence[bool]
) -> str:
    """The shares of the columns; with declared ones their shares, and the categories of steps."""
    tables = [_columns_table(reports, groups, declared)]
    if any(declared):
        # What attributions would have that know nothing of the columns.
        even = sum(declared) / len(declared)
        tables += [_shares_table(reports, even), _categories_table(reports)]
    off = [r.policy.residual for r in reports if r.policy.complete]
    if off:
        tables.append(f"Contributions add up to the answers up to {max(off):.1g}.")
    else:
        tables.append("This method's contributions need not add up to the answers.")
    return "\n\n".join(tables)


def _lines(reports: Sequence[SeedReport]) -> list[tuple[str, str, dict[str, Any]]]:
    """The seed, whose numbers they are, and the numbers."""
    return [
        (str(report.seed), whose, summary)
        for report in reports
        for whose, summary in report.summaries().items()
        if summary is not None
    ]


def _columns_table(
    reports: Sequence[SeedReport], groups: Sequence[str], declared: Sequence[bool]
) -> str:
    lines = _lines(reports)
    header = ["column", "declared", *(f"seed {seed}, {whose}" for seed, whose, _ in lines)]
    body = [
        [name, "yes" if marked else "", *(_number(s["weights"][place]) for _, _, s in lines)]
        for place, (name, marked) in enumerate(zip(groups, declared, strict=True))
    ]
    return markdown_table(header, body)


def _shares_table(reports: Sequence[SeedReport], even: float) -> str:
    header = ["seed", "network", "share in declared columns", "steps with half of it or more"]
    header += ["declared columns of all", "steps that are explained"]
    return markdown_table(
        header,
        [
            [
                *(seed, whose, _number(s["inside"]), _number(s["half_inside"])),
                *(_number(even), _number(s["explained"])),
            ]
            for seed, whose, s in _lines(reports)
        ],
    )


def _categories_table(reports: Sequence[SeedReport]) -> str:
    lines = _lines(reports)
    header = ["share of steps", *(f"seed {seed}, {whose}" for seed, whose, _ in lines)]
    body = [
        [name, *(_number(s["categories"][name]) for _, _, s in lines)]
        for name in (*CATEGORIES, NO_ATTRIBUTION)
    ]
    return markdown_table(header, body)


def _number(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.2f}"


def _record(report: SeedReport) -> dict[str, Any]:
    """All numbers of a seed, those of each step among them."""
    answer, steps = report.policy, report.steps
    return {
        "seed": report.seed,
        **report.summaries(),
        "controls": [control.summary() for control in report.controls],
        "steps": {
            "episode": steps.episode.tolist(),
            "time": steps.time.tolist(),
            "good": steps.good.tolist(),
            "inside": None if answer.inside is None else _finite(answer.inside.tolist()),
            "category": answer.categories,
            "contributions": answer.contributions.tolist(),
        },
    }


def _finite(values: Sequence[float]) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values]


def _bars(reports: Sequence[SeedReport], groups: Sequence[str], declared: Sequence[bool]) -> bytes:
    """A bar for each group, the mean over seeds, with a dot for each seed; beside it the control's.

    The names of declared groups have a star, and their bars another colour.
    """
    own = _weights([report.summaries()[POLICY] for report in reports])
    control = _weights([report.summaries()[CONTROL] for report in reports])
    mean = own.mean(0)
    shown = np.sort(np.argsort(-mean, kind="stable")[:MOST_BARS])
    places = np.arange(len(shown))
    figure = new_figure(6.0, 0.32 * len(shown) + 1.2)
    axis = figure.subplots()
    colours = [COLOURS[1] if declared[group] else COLOURS[0] for group in shown]
    axis.barh(places - 0.2, mean[shown], 0.4, color=colours, label=POLICY)
    for values in own:
        axis.plot(values[shown], places - 0.2, ".", color="black", ms=3)
    if len(control):
        axis.barh(places + 0.2, control.mean(0)[shown], 0.4, color="0.75", label=CONTROL)
    axis.set_yticks(
        places, [f"{groups[g]} *" if declared[g] else groups[g] for g in shown], fontsize=7
    )
    axis.invert_yaxis()
    axis.set_xlabel("share of absolute attribution (* declared relevant)", fontsize=8)
    axis.tick_params(axis="x", labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    if len(shown) < len(groups):
        axis.set_title(f"the strongest {len(shown)} of {len(groups)} columns", fontsize=8)
    axis.legend(fontsize=7, frameon=False)
    return png(figure)


def _weights(summaries: Sequence[Mapping[str, Any] | None]) -> np.ndarray:
    """The weights of each seed that has any; 0 where nothing is explained."""
    found = [
        [0.0 if weight is None else weight for weight in summary["weights"]]
        for summary in summaries
        if summary is not None
    ]
    return np.array(found)
