"""The workers' admin ports as one: what they count, with a label for each, and whether they may take traffic."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from schemas import metrics as names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from receiver.workers.worker import Worker

_ASK = aiohttp.ClientTimeout(total=2.0)


class Together:
    """Asks every worker that runs; one that does not answer is left out, and counts as not ready."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers

    async def not_ready(self) -> list[str]:
        """Say why no traffic may come: no worker runs, or one that runs does not want any."""
        answers = await self._ask("/readyz")
        reasons = [f"worker-{index}" for index, (status, _) in answers.items() if status != HTTPStatus.OK]
        return reasons if answers else ["no-worker"]

    async def text(self) -> bytes:
        """Return what `/metrics` answers."""
        answers = await self._ask("/metrics")
        merged: dict[str, Metric] = {}
        for index, (_, text) in answers.items():
            for family in text_string_to_metric_families(text):
                _add(merged, family, index)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collected([*merged.values(), *self._own()]))
        return generate_latest(registry)

    def _own(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(names.WORKERS_RUNNING, "", sum(one.admin_port is not None for one in self._workers))
        restarts = CounterMetricFamily(names.WORKER_RESTARTS, "", labels=("worker",))
        for worker in self._workers:
            restarts.add_metric((str(worker.index),), worker.restarts)
        yield restarts

    async def _ask(self, path: str) -> dict[int, tuple[int, str]]:
        running = [(worker.index, worker.admin_port) for worker in self._workers if worker.admin_port is not None]
        async with aiohttp.ClientSession(timeout=_ASK) as session:
            answers = await asyncio.gather(*(_get(session, f"http://127.0.0.1:{port}{path}") for _, port in running))
        return {index: answer for (index, _), answer in zip(running, answers, strict=True)}


class _Collected:
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _add(merged: dict[str, Metric], family: Metric, index: int) -> None:
    into = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
    for sample in family.samples:
        into.add_sample(sample.name, sample.labels | {"worker": str(index)}, sample.value)


async def _get(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    try:
        async with session.get(url) as answer:
            return answer.status, await answer.text()
    except (aiohttp.ClientError, TimeoutError):
        return 0, ""
