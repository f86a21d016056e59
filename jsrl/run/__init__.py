"""One run: its stages, its components, its folder."""
