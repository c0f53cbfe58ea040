"""Alembic migrations of the control tables. Each goes up and down; ``warehouse/migrate.py`` runs them."""
