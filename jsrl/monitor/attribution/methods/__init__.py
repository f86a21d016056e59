"""Methods of attribution: one kind a file, each behind ``Method``."""

from jsrl.core.discovery import import_all
from jsrl.monitor.attribution.methods.base import (
    Attribution,
    Method,
    MethodOptions,
    make_method,
    methods,
)

__all__ = ["Attribution", "Method", "MethodOptions", "make_method", "methods"]

# Importing a kind registers it.
import_all(__name__, __path__)
