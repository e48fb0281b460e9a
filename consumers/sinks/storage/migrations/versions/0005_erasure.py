"""Receipts of erasures: which consumer has erased a contact in its sink, and what is left there."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# merchant and record_id are the ids that the erasure was asked for by; nothing else of the person is kept.
ERASURE_RECEIPT = """
CREATE TABLE ops.erasure_receipt (
    erasure_id   uuid        NOT NULL,
    consumer     text        NOT NULL,
    merchant     text        NOT NULL,
    record_id    text        NOT NULL,
    who          text        NOT NULL,
    requested_at timestamptz NOT NULL,
    erased_at    timestamptz NOT NULL DEFAULT now(),
    remains      text        NOT NULL,
    PRIMARY KEY (erasure_id, consumer)
)
"""

COMMENTS = {
    "TABLE ops.erasure_receipt": "One row an erasure and consumer: its sink holds nothing of the contact any more",
    "COLUMN ops.erasure_receipt.who": "user@host of who asked for it",
    "COLUMN ops.erasure_receipt.remains": "What the sink could not erase, in a sentence; empty: nothing",
}


def upgrade() -> None:
    op.execute(ERASURE_RECEIPT)
    for thing, comment in COMMENTS.items():
        op.execute(f"COMMENT ON {thing} IS '{comment}'")


def downgrade() -> None:
    raise NotImplementedError("what was done stays on record")
