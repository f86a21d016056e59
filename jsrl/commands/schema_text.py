"""What each key of a schema means: the comment above its field is the one place where it stands."""

import ast
import functools
import inspect
from dataclasses import fields, is_dataclass
from typing import Any


def meanings(schema: type, prefix: str = "") -> dict[str, str]:
    """The meaning of every key, dotted, those of groups included.

    Args:
        schema: a dataclass of the configuration.
        prefix: what the keys begin with.

    Returns:
        An empty meaning where there is no comment, or two keys share one.
    """
    texts: dict[str, str] = {}
    for owner in reversed(schema.__mro__[:-1]):
        texts |= _comments(owner)
    found: dict[str, str] = {}
    for entry in fields(schema):
        key = f"{prefix}{entry.name}"
        kind: Any = entry.type
        if isinstance(kind, type) and is_dataclass(kind):
            found |= meanings(kind, f"{key}.")
        else:
            found[key] = texts.get(entry.name, "")
    return found


@functools.cache
def _comments(owner: type) -> dict[str, str]:
    """The comment that stands directly above each field of a class."""
    source = inspect.getsource(owner)
    lines = source.splitlines()
    tree = ast.parse(source).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for node in tree.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        above: list[str] = []
        number = node.lineno - 2
        while lines[number].strip().startswith("#"):
            above.insert(0, lines[number].strip().removeprefix("#").strip())
            number -= 1
        found[node.target.id] = " ".join(above).replace("``", "")
    return found
