"""What every test runs under: one thread, and shapes checked at run time."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxtyping

jaxtyping.install_import_hook("jsrl", "type_checker.check")
