"""Messages that name the key that was typed, where a guide's options stand under another one."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from jsrl.core.errors import UserError


@contextmanager
def keys_moved(
    source: str, target: str, names: Mapping[str, str], always: bool = True
) -> Iterator[None]:
    """While open, mistakes that name an option of ``source`` are raised with its key in ``target``.

    Args:
        source: the group that messages speak of, such as ``guide``.
        target: what was typed, such as ``guide.members[1]``.
        names: of the options there, by their names in messages.
        always: whether a message that names none of them begins with ``target``.
    """
    try:
        yield
    except UserError as error:
        text = str(error)
        pattern = rf"\b{re.escape(source)}\.({'|'.join(map(re.escape, names))})\b"
        moved = re.sub(pattern, lambda found: f"{target}.{names[found[1]]}", text)
        if moved == text and always:
            moved = f"{target}: {text}"
        raise UserError(moved) from error
