"""How a command reaches Kafka: by `KAFKA_...`, as every process does."""

from __future__ import annotations

from typing import Any

import click
from pydantic import ValidationError

from schemas.kafka import KafkaSettings


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
