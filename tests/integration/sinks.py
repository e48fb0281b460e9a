"""Three real destinations for consumers that run in the test's own process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import asyncpg

from consumers.sinks import analytics, crm, storage
from tests.crm import TOKEN, Crm

CONSUMERS = ("storage", "analytics", "crm")


@dataclass(frozen=True)
class Sinks:
    """Three real destinations."""

    dsn: str
    uri: str
    crm: Crm

    def connecting(self, name: str) -> Any:
        settings: dict[str, Any] = {
            "storage": storage.Settings(dsn=self.dsn),
            "analytics": analytics.Settings(uri=self.uri, pseudonym_key="secret"),
            "crm": crm.Settings(url=self.crm.url, token=TOKEN, ledger_dsn=self.dsn, limit_calls=100_000),
        }
        module: Any = {"storage": storage, "analytics": analytics, "crm": crm}[name]

        class Sink:
            @staticmethod
            def connect() -> Any:
                return module.connect(settings[name], {})

        return Sink()

    async def rows(self) -> list[Any]:
        connection = await asyncpg.connect(self.dsn)
        try:
            return [tuple(row) for row in await connection.fetch("SELECT *, xmin::text FROM dial_result ORDER BY 1")]
        finally:
            await connection.close()

    async def analysed(self) -> list[str]:
        return sorted(await analytics.event_ids(analytics.Settings(uri=self.uri, pseudonym_key="secret")))
