"""Reports and pages as Jinja2 templates over plain data, each beside the code that fills it."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from jsrl.report.tables import markdown_table


def template_environment(package: str) -> Environment:
    """How the folder ``templates`` of a package is read.

    A name that a template does not know is an error. Whatever text a template is given is escaped,
    since names of runs, layers and columns come from users; only in Markdown, whose templates end
    in ``.md.j2``, it is not. There, the filter ``markdown_table`` makes a table of the lines of its
    body.

    Args:
        package: the name of the package, such as ``jsrl.monitor.page``.
    """
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=lambda name: not (name or "").endswith(".md.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["markdown_table"] = lambda body, header: markdown_table(header, body)
    return environment


def render_markdown(package: str, name: str, content: Mapping[str, Any]) -> str:
    """The text of a Markdown template over its data.

    Args:
        package: the name of the package, such as ``jsrl.monitor.studies``.
        name: the name of the template, which ends in ``.md.j2``.
        content: what the template shows, by name.
    """
    return template_environment(package).get_template(name).render(content)
