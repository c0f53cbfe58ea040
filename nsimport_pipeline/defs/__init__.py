"""The Dagster side: the only package that imports Dagster. Thin shells around the decisions in ``imports/``."""
