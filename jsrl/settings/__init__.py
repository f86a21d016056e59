"""The schema of a run, and what explains a mistake in it."""
