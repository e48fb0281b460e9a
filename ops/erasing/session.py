"""Counts what there is of a contact, writes it to `dial-results.erased`, and waits for the consumers' receipts."""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError, TableNotFoundError

from ops import audit
from ops.ending import NotNow
from schemas import topics
from schemas.clients import started
from schemas.erasure import Erasure, encode

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import asyncpg

    from ops.places import Places

_CONNECT_S = 15.0
_STOP_S = 5.0
_LOOK_EVERY_S = 0.2
_ROWS = "SELECT count(*) FROM dial_result WHERE merchant = $1 AND record_id = $2"
_LEDGER = "SELECT count(*) FROM ops.crm_ledger WHERE contact = $1"
_RECEIPTS = "SELECT consumer, erased_at, remains FROM ops.erasure_receipt WHERE erasure_id = $1"
_EARLIER = "SELECT count(DISTINCT erasure_id) FROM ops.erasure_receipt WHERE merchant = $1 AND record_id = $2"


@dataclass(frozen=True)
class Receipt:
    """One consumer's word that its sink holds nothing of the contact any more; `remains` says what it could not do."""

    consumer: str
    erased_at: datetime
    remains: str


async def counts(connection: asyncpg.Connection, places: Places, merchant: str, record_id: str) -> dict[str, int]:
    """Count what each sink holds of the contact; -1: the analytics table cannot be asked from here."""
    safe = record_id.replace("\0", "")
    return {
        "storage_rows": await connection.fetchval(_ROWS, merchant, safe),
        "analytics_rows": await asyncio.to_thread(_in_analytics, places.analytics_uri, merchant, record_id),
        "crm_ledger_rows": await connection.fetchval(_LEDGER, f"{merchant}:{safe}"),
        "erased_before": await connection.fetchval(_EARLIER, merchant, safe),
    }


def _in_analytics(uri: str | None, merchant: str, record_id: str) -> int:
    if uri is None:
        return -1
    options = json.loads(os.environ.get("ANALYTICS_STORAGE_OPTIONS", "{}"))
    name, record = (text.replace("'", "''") for text in (merchant, record_id))
    query = f"SELECT count(*) FROM t WHERE merchant = '{name}' AND record_id = '{record}'"  # noqa: S608  # quoted
    try:
        table = DeltaTable(uri, storage_options=options)
        return sum(piece.column(0).to_pylist()[0] for piece in QueryBuilder().register("t", table).execute(query))
    except TableNotFoundError:
        return 0
    except (DeltaError, OSError):
        return -1


async def ask(
    connection: asyncpg.Connection,
    options: Mapping[str, Any],
    merchant: str,
    record_id: str,
    found: Mapping[str, int],
) -> Erasure:
    """Put it on record, then on the topic: from the return on nobody who starts brings the contact back.

    Raises:
        NotNow: the topic is missing.
        KafkaError, OSError, TimeoutError: Kafka did not take it, or did not say so; doing it again is harmless.
    """
    key = f"{merchant}:{record_id}".encode()
    one = Erasure(key, str(uuid.uuid4()), audit.who(), datetime.now(UTC))
    # Kafka first is asked whether it is there: what stands in the audit should mostly have happened.
    producer = AIOKafkaProducer(**options, acks="all", enable_idempotence=False, request_timeout_ms=10_000)
    async with started(producer, _CONNECT_S, _STOP_S):
        if not await producer.client.force_metadata_update():
            raise KafkaError
        if not producer.client.cluster.partitions_for_topic(topics.erased()):
            raise NotNow(f"the topic {topics.erased()} is missing: `dial-results topics apply` makes it")
        said = {"merchant": merchant, "record_id": record_id, "erasure_id": one.erasure_id}
        await audit.record(connection, "erase", said, found)
        await producer.send_and_wait(topics.erased(), encode(one), key, 0)
    return one


async def receipts(
    connection: asyncpg.Connection, one: Erasure, consumers: Collection[str], limit_s: float
) -> list[Receipt]:
    """Wait until each of these consumers has left its receipt, or for so long; return those that there are."""
    until = time.monotonic() + limit_s
    while True:
        rows = await connection.fetch(_RECEIPTS, one.erasure_id)
        found = [Receipt(**row) for row in rows]
        if {each.consumer for each in found}.issuperset(consumers) or time.monotonic() > until:
            return found
        await asyncio.sleep(_LOOK_EVERY_S)
