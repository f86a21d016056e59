"""What an audit found, as ``violations.json`` for programs and ``report.html`` for people."""

import base64
import html
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jsrl.figures import COLOURS, DOTS_PER_INCH
from jsrl.files import write_whole
from jsrl.monitor.audit import Audit
from jsrl.monitor.detector import finite_activations
from jsrl.monitor.figures import draw_embedding
from jsrl.monitor.watch import Check

LISTED_WORST = 25
LISTED_MARGINS = 8

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.state { padding: .8rem 1rem; border-radius: .4rem; font-size: 1.1rem; }
.good { background: #e6f4ea; border-left: .4rem solid #009E73; }
.bad { background: #fdecea; border-left: .4rem solid #D55E00; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem; text-align: right; }
th { border-bottom: 1px solid #999; } td:first-child, th:first-child { text-align: left; }
tr:nth-child(even) { background: #f5f5f5; } img { max-width: 100%; height: auto; }
.note { color: #555; font-size: .9rem; } .over { color: #b3420a; font-weight: 600; }
"""


def write_violations(path: Path, found: Audit, of: dict[str, Any]) -> None:
    """Write ``violations.json``.

    Args:
        path: of the file.
        found: what it holds.
        of: what was looked at: run, seed, data, fault.

    Raises:
        UserError: if it cannot be written.
    """
    first = found.first_alarm
    content = {
        "of": of,
        "alarm": found.alarm,
        "first_alarm_episode": None if first is None else first.episode,
        "bound": found.statement,
        "violations": [vars(violation) for violation in found.violations],
        "checks": [
            {
                "episode": check.episode,
                "step": check.step,
                "p_value": check.p_value,
                "level": check.level,
                "smallest_p": check.finding.smallest_p,
                "method": check.method,
                "alarm": check.alarm,
                "note": check.note,
                "cause": check.finding.cause,
            }
            for check in found.checks
        ],
        "layers": [
            {"layer": name, "detection_rate": float(rate), "null_quantile": float(quantile)}
            for name, rate, quantile in zip(
                found.layers, found.rates.rates, found.rates.null_quantiles, strict=True
            )
        ],
    }
    text = json.dumps(_plain(content), indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(path, f"{text}\n".encode())


def write_page(path: Path, found: Audit, of: dict[str, Any]) -> None:
    """Write ``report.html``: one file, with its pictures in it.

    Raises:
        UserError: if it cannot be written.
    """
    parts = [
        f"<h1>Inputs of {html.escape(str(of['run']))}</h1>",
        _state(found),
        _looked_at(found, of),
        "<h2>Timeline</h2>",
        _image(
            draw_timeline(found.checks), "p-value of the test after every episode, and its level"
        ),
        *_notes(found.checks),
        "<h2>Layers</h2>",
        _layers(found),
        "<h2>Columns of the observation</h2>",
        _columns(found),
        "<h2>Most unusual steps</h2>",
        _worst(found),
        "<h2>Embedding</h2>",
        _embedding(found),
    ]
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>'
        f"{'ALARM' if found.alarm else 'No alarm'}: {html.escape(str(of['run']))}</title>"
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )
    write_whole(path, page.encode())


def draw_timeline(checks: Sequence[Check]) -> bytes:
    """A PNG of p-values over the tests, on a logarithmic axis, and the levels of an alarm."""
    figure = Figure(figsize=(7.0, 2.8), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    places = np.arange(1, len(checks) + 1)
    lowest = min((c.finding.smallest_p for c in checks if c.finding.smallest_p > 0), default=1e-4)
    p = np.array([max(check.p_value, lowest / 2) for check in checks])
    alarms = np.array([check.alarm for check in checks], bool)
    axis.plot(places, p, color=COLOURS[0], lw=1, zorder=2)
    axis.scatter(places[~alarms], p[~alarms], s=14, color=COLOURS[0], label="no alarm", zorder=3)
    if alarms.any():
        axis.scatter(
            *(places[alarms], p[alarms]),
            s=34,
            marker="X",
            color=COLOURS[1],
            label="alarm",
            zorder=4,
        )
    levels = [check.level for check in checks]
    axis.plot(places, levels, color="#555555", ls="--", lw=1, label="level")
    axis.set_yscale("log")
    axis.set_xlabel("test")
    axis.set_ylabel("p-value")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    figure.legend(loc="outside upper right", ncols=3, fontsize=8, frameon=False)
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()


def _state(found: Audit) -> str:
    first = found.first_alarm
    bound = html.escape(found.statement)
    if first is None:
        text = f"<b>No alarm</b> in {len(found.checks)} tests. {bound}"
        return f'<p class="state good">{text}</p>'
    why = "something is not finite" if not first.finding.finite else f"p = {_short(first.p_value)}"
    text = (
        f"<b>Alarm</b>: {sum(check.alarm for check in found.checks)} of {len(found.checks)} tests, "
        f"first after episode {first.episode} ({why}). {bound}"
    )
    return f'<p class="state bad">{text}</p>'


def _looked_at(found: Audit, of: dict[str, Any]) -> str:
    trusted = len(np.unique(found.reference.rows.episode))
    rows = [(name, str(value)) for name, value in of.items() if value is not None]
    rows += [("reference episodes", str(trusted)), ("tests", str(len(found.checks)))]
    return _table(["", ""], [[html.escape(name), html.escape(value)] for name, value in rows])


def _notes(checks: Sequence[Check]) -> list[str]:
    notes = dict.fromkeys(check.note for check in checks if check.note)
    return [f'<p class="note">{html.escape(note)}</p>' for note in notes]


def _layers(found: Audit) -> str:
    last = _telling(found)
    own = {} if last is None else _smallest_of_layers(last)
    body = []
    for name, rate, quantile in zip(
        found.layers, found.rates.rates, found.rates.null_quantiles, strict=True
    ):
        over = ' class="over"' if rate > quantile else ""
        p, dead, saturated = own.get(name, (math.nan, math.nan, math.nan))
        cells = [
            html.escape(name),
            f"<span{over}>{float(rate):.0%}</span>",
            f"{float(quantile):.0%}",
        ]
        body.append([*cells, _short(p), _share(dead), _share(saturated)])
    header = ["layer", "detection rate", "its null 95 % quantile", "p", "dead units", "saturated"]
    note = (
        "Detection rate: share of small tests on random samples of both sides that reject at 5 %; "
        "a size, no decision, to be read beside its quantile where nothing is wrong. p: of the "
        "layer alone, uncorrected, in the test that decided."
    )
    return f'{_table(header, body)}\n<p class="note">{note}</p>'


def _columns(found: Audit) -> str:
    check = _telling(found)
    if check is None or not check.finding.margins:
        return "<p>Not compared.</p>"
    margins = sorted(check.finding.margins, key=lambda m: m.p_value)[:LISTED_MARGINS]
    body = [[f"{m.column}", m.kind, m.actor, _short(m.p_value)] for m in margins]
    note = (
        "The columns that moved most, each alone, uncorrected, by what they do within an episode: "
        "mean, spread, change from one row to the next, and relation, what the other columns do "
        "not explain of it."
    )
    header = ["column", "what", "who acted", "p"]
    return f'{_table(header, body)}\n<p class="note">{note}</p>'


def _worst(found: Audit) -> str:
    body = [
        [
            *(str(v.episode), str(v.time), str(v.step)),
            *(_short(v.score), _short(v.p_value), html.escape(v.layer)),
        ]
        for v in found.unusual[:LISTED_WORST]
    ]
    header = ["episode", "time", "step", "witness", "conformal p", "layer"]
    note = (
        "There always are steps that differ most: without an alarm they say little. p: of the "
        f"layer that says it most clearly. {len(found.violations)} are in violations.json."
    )
    return f'{_table(header, body)}\n<p class="note">{note}</p>'


def _embedding(found: Audit) -> str:
    reference, current = finite_activations(found.reference), finite_activations(found.current)
    both = {
        name: (values, current[name])
        for name, values in reference.items()
        if len(values) > 1 and len(current[name]) > 1
    }
    if not both:
        return "<p>Nothing finite to draw.</p>"
    return _image(draw_embedding(both), "Activations of reference and current episodes in a plane")


def _telling(found: Audit) -> Check | None:
    """The first alarm, or the last check."""
    return found.first_alarm or (found.checks[-1] if found.checks else None)


def _smallest_of_layers(check: Check) -> dict[str, tuple[float, float, float]]:
    found: dict[str, tuple[float, float, float]] = {}
    for one in check.finding.layers:
        entry = (one.p_value, one.dead_units, one.saturated_units)
        found[one.layer] = min(found.get(one.layer, entry), entry)
    return found


def _table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in header)
    rows = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in body)
    return f"<table><tr>{head}</tr>\n{rows}</table>"


def _image(png: bytes, alternative: str) -> str:
    encoded = base64.b64encode(png).decode()
    return f'<img alt="{html.escape(alternative)}" src="data:image/png;base64,{encoded}">'


def _short(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2g}"


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0%}"


def _plain(value: Any) -> Any:
    """Without NaN and infinity, which JSON has not."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
