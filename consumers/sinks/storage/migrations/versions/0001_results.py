"""The table of results, the views for its readers, and the CRM's ledger.

Revision numbers ascend as text: `schema.py` compares them. Migrations only add, so that the version before keeps
working on the database while processes are replaced one by one.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Unpartitioned, so that event_id alone can be the primary key: the same event is one row, whatever else it says.
# json, not jsonb: it keeps every digit, repeats nothing, takes \u0000 escapes, and is written a third faster.
TABLE = """
CREATE TABLE dial_result (
    event_id    uuid        NOT NULL PRIMARY KEY,
    merchant    text        NOT NULL,
    task_id     text        NOT NULL,
    record_id   text        NOT NULL,
    received_at timestamptz NOT NULL,
    source      text        NOT NULL,
    name        text,
    mobile      text,
    conclusion  text,
    called_at   timestamptz,
    ext_vars    json,
    call_vars   json,
    record      json        NOT NULL
)
"""

# Two ways in for readers: by contact, and by task. Time goes by BRIN: rows arrive in the order of received_at.
INDEXES = (
    "CREATE INDEX dial_result_contact ON dial_result (merchant, record_id)",
    "CREATE INDEX dial_result_task ON dial_result (merchant, task_id, record_id)",
    "CREATE INDEX dial_result_received ON dial_result USING brin (received_at)",
)

# The one rule of what is newest (schemas/mapping.py, newest_key): call time, else first received; a reconciled result
# without call time is older than all; ties by event id. uuid compares as its text does.
NEWEST_FIRST = """(called_at IS NOT NULL OR source <> 'reconcile') DESC,
             coalesce(called_at, received_at) DESC,
             event_id DESC"""

LATEST_RESULT = f"""
CREATE VIEW latest_result AS
SELECT DISTINCT ON (merchant, record_id)
       event_id, merchant, task_id, record_id, received_at, source, name, mobile, conclusion, called_at,
       ext_vars, call_vars, record
    FROM dial_result
    ORDER BY merchant, record_id,
             {NEWEST_FIRST}
"""  # noqa: S608

TASK_PROGRESS = """
CREATE VIEW task_progress AS
SELECT merchant,
       task_id,
       count(*)                                        AS results,
       count(DISTINCT record_id)                       AS contacts,
       count(*) FILTER (WHERE conclusion IS NOT NULL)  AS results_with_conclusion,
       count(*) FILTER (WHERE source = 'reconcile')    AS results_reconciled,
       min(received_at)                                AS first_received_at,
       max(received_at)                                AS last_received_at,
       min(called_at)                                  AS first_called_at,
       max(called_at)                                  AS last_called_at
    FROM dial_result
    GROUP BY merchant, task_id
"""

CONTACT_HISTORY = f"""
CREATE VIEW contact_history AS
SELECT merchant,
       record_id,
       row_number() OVER (
           PARTITION BY merchant, record_id
           ORDER BY {NEWEST_FIRST}
       ) AS newest_first,
       event_id, task_id, received_at, source, name, mobile, conclusion, called_at, ext_vars, call_vars, record
    FROM dial_result
"""  # noqa: S608

# One row an event and destination: the primary key decides "one effect an event id". The newest of a contact is the
# greatest (newest_known, newest_at, event_id) of its rows, which are newest_key's three parts, in its order.
CRM_LEDGER = (
    """
CREATE TABLE ops.crm_ledger (
    destination  text        NOT NULL,
    event_id     uuid        NOT NULL,
    contact      text        NOT NULL,
    state        text        NOT NULL,
    newest_known boolean     NOT NULL,
    newest_at    timestamptz NOT NULL,
    properties   text,
    remote_id    text,
    attempts     integer     NOT NULL DEFAULT 0,
    reason       text,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (destination, event_id)
)
""",
    """
CREATE INDEX crm_ledger_newest
    ON ops.crm_ledger (destination, contact, newest_known DESC, newest_at DESC, event_id DESC)
    WHERE state = 'done'
""",
    "CREATE INDEX crm_ledger_pending ON ops.crm_ledger (destination, contact) WHERE state = 'pending'",
)

COMMENTS = {
    "TABLE dial_result": "Every result of every call, once, as the topic dial-results brought it",
    "COLUMN dial_result.event_id": "Names a result by what it says; the same in Kafka, Delta and CRM",
    "COLUMN dial_result.received_at": "When the receiver first had it",
    "COLUMN dial_result.source": "callback, or reconcile where it was fetched from Blu",
    "COLUMN dial_result.called_at": "When the call was made, where the record says so",
    "COLUMN dial_result.record": "Blu's record, whole: every field by its own name, no digit changed",
    "VIEW latest_result": "The newest result of each contact, by the rule of docs/contract.md",
    "VIEW task_progress": "One row a task: how many results of how many contacts came, and when",
    "VIEW contact_history": "Every result of a contact; newest_first = 1 is the newest",
    "TABLE ops.crm_ledger": "One row an event and CRM: what was, will be or need not be sent",
    "COLUMN ops.crm_ledger.contact": "merchant:recordId, the key in Kafka",
    "COLUMN ops.crm_ledger.newest_known": "false: reconciled without call time, older than all others",
    "COLUMN ops.crm_ledger.newest_at": "call time, else when it was first received",
    "COLUMN ops.crm_ledger.properties": "What was sent: kept while pending and for the newest done, else null",
}


def upgrade() -> None:
    for statement in (TABLE, *INDEXES, LATEST_RESULT, TASK_PROGRESS, CONTACT_HISTORY, *CRM_LEDGER):
        op.execute(statement)
    for thing, comment in COMMENTS.items():
        quoted = comment.replace("'", "''")
        op.execute(f"COMMENT ON {thing} IS '{quoted}'")


def downgrade() -> None:
    raise NotImplementedError("results are never dropped: restore a backup instead")
