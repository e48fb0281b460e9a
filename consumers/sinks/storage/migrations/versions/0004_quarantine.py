"""Which bodies of the quarantine are resubmitted, and what they became.

None of it holds personal data: places, times and ids, never what a body says.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Offsets begin anew where a topic is made anew, so the record's time belongs to its name.
QUARANTINE_STATE = """
CREATE TABLE ops.quarantine_state (
    topic        text        NOT NULL,
    partition    integer     NOT NULL,
    "offset"     bigint      NOT NULL,
    timestamp_ms bigint      NOT NULL,
    state        text        NOT NULL,
    merchant     text        NOT NULL,
    received_at  timestamptz NOT NULL,
    reason       text        NOT NULL,
    event_ids    uuid[]      NOT NULL,
    resubmit_id  text        NOT NULL,
    at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, "offset", timestamp_ms)
)
"""

COMMENTS = {
    "TABLE ops.quarantine_state": "Quarantined bodies that could be read after all; those without a row are open",
    "COLUMN ops.quarantine_state.state": "resubmitted: its results are in dial-results, acknowledged",
    "COLUMN ops.quarantine_state.received_at": "When the receiver took the body: its results carry this time",
    "COLUMN ops.quarantine_state.event_ids": "The results published out of it; none of a body without records",
}


def upgrade() -> None:
    op.execute(QUARANTINE_STATE)
    for thing, comment in COMMENTS.items():
        op.execute(f"COMMENT ON {thing} IS '{comment}'")


def downgrade() -> None:
    raise NotImplementedError("what was done stays on record")
