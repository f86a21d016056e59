"""The page and the file of an audit: what they say, and that no text of a user becomes markup."""

import html
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from monitor.episodes import network, steps_of, walk

from jsrl.core.streams import Streams
from jsrl.monitor.capture.samples import Sample
from jsrl.monitor.detectors.findings import DetectorSettings
from jsrl.monitor.detectors.rates import RateSettings
from jsrl.monitor.page.report import write_page
from jsrl.monitor.page.violations import write_violations
from jsrl.monitor.watch.audit import Auditor
from jsrl.monitor.watch.settings import WatchSettings

HOSTILE = "<script>alert('&')</script>"
"""A name that would be markup if it were not escaped."""


def audit(shift=0.0):
    """Twelve episodes, whose second column may be shifted, against twenty others."""
    rng, module = np.random.default_rng(0), network()

    def episode(number, added=0.0):
        steps = walk(rng)
        steps[:, 1] += np.float32(added)
        return steps_of(steps, number)

    @torch.no_grad()
    def answered(steps):
        inputs = torch.from_numpy(steps.observations)
        return Sample(steps, {"inputs": inputs, HOSTILE: module(inputs)})

    settings = WatchSettings(0.05, 20, reference=20, detector=DetectorSettings(2000))
    reference = [answered(episode(number)) for number in range(20)]
    auditor = Auditor(reference, settings, RateSettings(20, 40), Streams([0]))
    auditor.add([answered(episode(number, shift)) for number in range(12)])
    return auditor.audit()


@pytest.fixture(scope="module")
def alarmed():
    return audit(shift=3.0)


class Tables(HTMLParser):
    """The text of the cells of each table, and every tag that was opened."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.tables, self.in_cell = [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data):
        if self.in_cell:
            self.tables[-1][-1][-1] += data


def page_of(found, folder, **changes):
    of = {"run": HOSTILE, "seed": 3, "data": "fresh", "fault": None} | changes
    write_page(folder / "report.html", found, of, [HOSTILE] * 6)
    return (folder / "report.html").read_text()


def test_text_of_a_user_is_escaped_everywhere(alarmed, tmp_path: Path) -> None:
    page = page_of(alarmed, tmp_path)
    assert "<script" not in page
    assert html.escape(HOSTILE, quote=False).replace("'", "&#39;") in page
    assert "script" not in Tables(page).tags


def test_the_tables_say_what_the_audit_found(alarmed, tmp_path: Path) -> None:
    subject, layers, columns, steps = Tables(page_of(alarmed, tmp_path)).tables
    assert ["seed", "3"] in subject and ["reference episodes", "20"] in subject
    # What is None is left out.
    assert not any(line[0] == "fault" for line in subject)
    assert [line[0] for line in layers[1:]] == ["inputs", HOSTILE]
    rates = [f"{float(rate):.0%}" for rate in alarmed.rates.rates]
    assert [line[1] for line in layers[1:]] == rates
    smallest = min(m.p_value for m in alarmed.first_alarm.finding.margins)
    assert columns[1][0] == f"{HOSTILE} (column 1)" and columns[1][3] == f"{smallest:.2g}"
    assert len(steps) == 26
    first = alarmed.unusual[0]
    assert steps[1][:3] == [str(first.episode), str(first.time), str(first.step)]


def test_the_page_begins_with_an_alarm_or_with_none(alarmed, tmp_path: Path) -> None:
    page = page_of(alarmed, tmp_path)
    alarms = sum(check.alarm for check in alarmed.checks)
    number = alarmed.first_alarm_test
    assert f"<b>Alarm</b>: {alarms} of 12 tests, the first of them test {number}," in page
    assert "<title>ALARM: " in page
    calm = page_of(audit(), tmp_path)
    assert "<b>No alarm</b> in 12 tests." in calm and "<title>No alarm: " in calm
    assert f"violations.json lists {len(alarmed.violations)} steps." in page


def test_numbers_that_are_not_known_are_shown_as_a_dash(alarmed, tmp_path: Path) -> None:
    checks = [replace(c, finding=replace(c.finding, layers=(), margins=())) for c in alarmed.checks]
    page = page_of(replace(alarmed, checks=tuple(checks)), tmp_path)
    layers = Tables(page).tables[1]
    assert all(line[3:] == ["-", "-", "-"] for line in layers[1:])
    assert "The columns were not compared." in page


def test_what_is_not_finite_is_said_and_not_drawn(alarmed, tmp_path: Path) -> None:
    nothing = {
        name: torch.full_like(v, torch.nan) for name, v in alarmed.current.activations.items()
    }
    broken = replace(alarmed.current, activations=nothing)
    first = replace(alarmed.checks[0], alarm=True)
    first = replace(first, finding=replace(first.finding, finite=False))
    found = replace(alarmed, current=broken, checks=(first, *alarmed.checks[1:]))
    page = page_of(found, tmp_path)
    assert "(something is not finite)" in page and "There is nothing finite to draw." in page
    assert Tables(page).tags.count("img") == 1


def test_violations_are_json_without_nan(alarmed, tmp_path: Path) -> None:
    worst = replace(alarmed.unusual[0], score=float("inf"))
    found = replace(alarmed, unusual=(worst, *alarmed.unusual[1:]))
    write_violations(tmp_path / "violations.json", found, {"run": "x"}, ["a", "b"])
    content = json.loads(
        (tmp_path / "violations.json").read_text(), parse_constant=lambda name: pytest.fail(name)
    )
    assert content["violations"][0]["score"] is None
    assert content["first_alarm_test"] == found.first_alarm_test
    assert content["columns"][0]["name"] == "b" and content["columns"][0]["column"] == 1
    assert len(content["checks"]) == 12 and len(content["layers"]) == 2
