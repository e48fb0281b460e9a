"""Views without personal data, for readers who need none; a smaller index for tasks."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Ids, times and what came of it. Names, mobiles, the variables and the record itself hold personal data. A view's
# owner reads the table for it, so that a role may have these and not the table.
_COLUMNS = "event_id, merchant, task_id, record_id, received_at, source, conclusion, called_at"
VIEWS = {
    "dial_result_masked": _COLUMNS,
    "latest_result_masked": _COLUMNS,
    "contact_history_masked": f"newest_first, {_COLUMNS}",
}

# A task's results come together: without the record's id most entries go to one page and share their key.
INDEXES = (
    "CREATE INDEX dial_result_of_task ON dial_result (merchant, task_id)",
    "DROP INDEX dial_result_task",
)


def upgrade() -> None:
    for name, columns in VIEWS.items():
        whole = name.removesuffix("_masked")
        op.execute(f"CREATE VIEW {name} AS SELECT {columns} FROM {whole}")  # noqa: S608  # constants
        op.execute(f"COMMENT ON VIEW {name} IS 'As {whole}, without personal data'")
    for statement in INDEXES:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("results are never dropped: restore a backup instead")
