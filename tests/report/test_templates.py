"""How templates are read: a name must be known, and text is escaped except in Markdown."""

import jinja2
import pytest

from jsrl.report.templates import template_environment


def test_a_name_that_the_template_does_not_know_is_an_error() -> None:
    template = template_environment("jsrl.monitor.page").from_string("{{ nmae }}")
    with pytest.raises(jinja2.UndefinedError):
        template.render(name=1)


@pytest.mark.parametrize(
    "name, shown", [("x.html.j2", "&lt;b&gt;"), ("x.j2", "&lt;b&gt;"), ("x.md.j2", "<b>")]
)
def test_text_is_escaped_except_in_markdown(name: str, shown: str) -> None:
    environment = template_environment("jsrl.monitor.page")
    environment.loader = jinja2.DictLoader({name: "{{ text }}"})
    assert environment.get_template(name).render(text="<b>") == shown


def test_a_table_of_markdown_has_aligned_columns() -> None:
    environment = template_environment("jsrl.monitor.page")
    source = "{{ body | markdown_table(['a', 'long']) }}"
    environment.loader = jinja2.DictLoader({"x.md.j2": source})
    text = environment.get_template("x.md.j2").render(body=[["1", "|"], ["22", "3"]])
    assert text.splitlines() == [
        "| a  | long |",
        "|----|------|",
        "| 1  | \\|   |",
        "| 22 | 3    |",
    ]
