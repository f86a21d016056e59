"""The page of an audit, ``report.html``: a template of this folder over plain data."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jsrl.core.files import write_whole
from jsrl.monitor.page.content import page_content
from jsrl.monitor.watch.audit import Audit
from jsrl.report.templates import template_environment

MISSING = "-"
"""How a number that is not known is shown."""


def write_page(
    path: Path, found: Audit, of: Mapping[str, Any], columns: Sequence[str] = ()
) -> None:
    """Write ``report.html``: one file, with its pictures in it.

    Args:
        path: where the file is written.
        found: the audit that the page shows.
        of: what was audited: its run, seed, data and fault.
        columns: the names of the columns of the observation, if they are known.

    Raises:
        UserError: if the file cannot be written.
    """
    environment = template_environment("jsrl.monitor.page")
    environment.filters.update(number=_number, percent=_percent, data_uri=_data_uri)
    content = asdict(page_content(found, of, columns))
    page = environment.get_template("report.html.j2").render(content)
    write_whole(path, page.encode())


def _number(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.2g}"


def _percent(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.0%}"


def _data_uri(png: bytes) -> str:
    """A picture as an address that holds all of it, so that the page is a single file."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
