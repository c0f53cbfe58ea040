"""Imports a company's NetSuite records into its own database, on Dagster."""

__version__ = "0.1.0"
