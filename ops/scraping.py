"""What a part of the pipeline counts, asked of its admin port."""

from __future__ import annotations

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

_ANSWER_S = 15.0


async def scraped(admin_url: str, answer_s: float = _ANSWER_S) -> dict[str, int] | None:
    """Return each metric of `schemas/metrics.py`, summed over its labels; None while the part does not answer."""
    timeout = aiohttp.ClientTimeout(total=answer_s)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{admin_url}/metrics") as response:
            text = await response.text()
            families = list(text_string_to_metric_families(text)) if response.ok else None
    except (aiohttp.ClientError, OSError, ValueError):  # no address, nobody there, or somebody else
        return None
    return (
        None
        if families is None
        else {
            family.name: int(sum(sample.value for sample in family.samples if not sample.name.endswith("_created")))
            for family in families
        }
    )
