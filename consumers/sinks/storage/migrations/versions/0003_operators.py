"""What operators did: the audit, replay jobs, and which dead letters are settled.

None of it holds personal data: ids and counts, never what a record says.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

AUDIT = """
CREATE TABLE ops.audit (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT now(),
    who       text        NOT NULL,
    command   text        NOT NULL,
    arguments json        NOT NULL,
    counts    json        NOT NULL
)
"""

# A job's runner holds an advisory lock while it lives: `running` without a holder means that it was killed.
REPLAY_JOB = """
CREATE TABLE ops.replay_job (
    id         text        NOT NULL PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    who        text        NOT NULL,
    source     text        NOT NULL,
    target     text        NOT NULL,
    consumer   text,
    filters    json        NOT NULL,
    rate       integer     NOT NULL,
    state      text        NOT NULL,
    wanted     text        NOT NULL,
    expected   json        NOT NULL,
    progress   json        NOT NULL,
    looked_at  bigint      NOT NULL DEFAULT 0,
    sent       bigint      NOT NULL DEFAULT 0
)
"""

# Offsets begin anew where a topic is made anew, so the record's time belongs to its name.
REDRIVE = """
CREATE TABLE ops.redrive (
    consumer     text        NOT NULL,
    partition    integer     NOT NULL,
    "offset"     bigint      NOT NULL,
    timestamp_ms bigint      NOT NULL,
    state        text        NOT NULL,
    redrive_id   text        NOT NULL,
    at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, partition, "offset", timestamp_ms)
)
"""

COMMENTS = {
    "TABLE ops.audit": "Every operator's command that changed something or showed personal data",
    "COLUMN ops.audit.who": "user@host",
    "COLUMN ops.audit.arguments": "What it was asked for; no personal data",
    "COLUMN ops.audit.counts": "How many of what came of it",
    "TABLE ops.replay_job": "One row a replay: what is copied again, how far it is",
    "COLUMN ops.replay_job.consumer": "Whose replay topic the target is; null: a topic of another team",
    "COLUMN ops.replay_job.state": "running, paused, cancelled or done; running without a lock holder: interrupted",
    "COLUMN ops.replay_job.wanted": "What the operator asked its runner for: run, pause or cancel",
    "COLUMN ops.replay_job.expected": "What was counted before it began",
    "COLUMN ops.replay_job.progress": "Up to where everything is in the target, durably",
    "TABLE ops.redrive": "Dead letters that are settled: redriven to the replay topic, or purged",
}


def upgrade() -> None:
    for statement in (AUDIT, REPLAY_JOB, REDRIVE):
        op.execute(statement)
    for thing, comment in COMMENTS.items():
        op.execute(f"COMMENT ON {thing} IS '{comment.replace(chr(39), chr(39) * 2)}'")


def downgrade() -> None:
    raise NotImplementedError("what was done stays on record")
