"""Alembic's entry point: runs the migrations on the connection that ``warehouse/migrate.py`` hands over."""

from alembic import context

from nsimport_pipeline.warehouse.control import control
from nsimport_pipeline.warehouse.migrate import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=control,
    version_table=VERSION_TABLE,
    transactional_ddl=False,
)
with context.begin_transaction():
    context.run_migrations()
