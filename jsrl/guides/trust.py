"""Guides whose files can run code: one line says so before such a file is loaded.

``guide=python`` has no such line: what ``guide.target`` names is code, and nothing else.
"""

import sys
from dataclasses import dataclass
from typing import Any, ClassVar

from jsrl.guides.options import GuideOptions


@dataclass
class TrustedOptions(GuideOptions):
    """Of guides whose file can run code when it is loaded."""

    # Whether you trust the file: true leaves out the line that says that it can run code.
    trusted: bool = False

    # Whoever says it of a file that runs no code says nothing wrong.
    neutral: ClassVar[tuple[tuple[str, Any], ...]] = (("trusted", True),)

    def tell_of_code(self, what: str) -> None:
        """Say that loading ``what`` can run code, unless it is trusted; call it before loading."""
        if not self.trusted:
            self.tell(
                f"loading {what} can run code that is in it; guide.trusted=true leaves out this "
                "line"
            )

    def tell(self, line: str) -> None:
        """Say something that a user should know of the file, in one line."""
        print(f"guide={self.kind}: {line}", file=sys.stderr, flush=True)
