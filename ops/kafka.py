"""How a command reaches Kafka: by `KAFKA_...`, as every process does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click
from aiokafka.admin import AIOKafkaAdminClient
from pydantic import ValidationError

from schemas.clients import started
from schemas.kafka import KafkaSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUEST_S = 10.0
_STOP_S = 1.0


def client_options(bootstrap_servers: str | None = None) -> dict[str, Any]:
    """Return aiokafka's options; `bootstrap_servers` wins over the environment's. Raises click.UsageError."""
    try:
        settings = KafkaSettings()
        if bootstrap_servers:
            settings = settings.model_copy(update={"bootstrap_servers": bootstrap_servers})
        return settings.client_options()
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        raise click.UsageError(f"KAFKA_{'_'.join(map(str, problem['loc'])).upper()}: {problem['msg']}") from None
    except OSError as error:
        raise click.UsageError(f"a file named in KAFKA_...: {error}") from None


async def partition_counts(options: Mapping[str, Any]) -> dict[str, int]:
    """Return how many partitions each topic has. Of all topics: asking for one by name might create it.

    Raises:
        KafkaError, OSError, TimeoutError: Kafka cannot be reached.
    """
    admin = AIOKafkaAdminClient(**options, request_timeout_ms=int(REQUEST_S * 1_000))
    async with asyncio.timeout(REQUEST_S), started(admin, REQUEST_S, _STOP_S):
        described = await admin.describe_topics()
    return {topic["topic"]: len(topic["partitions"]) for topic in described}
