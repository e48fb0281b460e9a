"""Alembic's environment. Only its offline mode is used: it writes SQL, `migrate.py` runs it by asyncpg."""

from __future__ import annotations

from alembic import context

from consumers.sinks.storage.schema import VERSION_SCHEMA, VERSION_TABLE

context.configure(
    dialect_name="postgresql",
    version_table=VERSION_TABLE,
    version_table_schema=VERSION_SCHEMA,
    transactional_ddl=True,
    literal_binds=True,
)
with context.begin_transaction():
    context.execute(f"CREATE SCHEMA IF NOT EXISTS {VERSION_SCHEMA}")
    context.run_migrations()
