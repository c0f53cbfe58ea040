"""Imports that are broken on purpose, by seed, with the real daemon, databases and simulator. See ``__main__``."""
