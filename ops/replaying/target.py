"""Where a replay goes: one consumer's replay topic, or a topic of another team."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from consumers.finding import names
from schemas import topics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .sending import Copy


class UnfitTarget(ValueError):  # noqa: N818  # what it is
    """Nothing can be replayed to there; the message says why."""


class Target(NamedTuple):
    """A topic; `consumer` is whose replay topic it is, None: another team's."""

    topic: str
    consumer: str | None
    partitions: int
    same: bool
    """As many partitions as the live topic: a record keeps its partition."""

    @property
    def partition(self) -> Callable[[Copy], int] | None:
        """Return how to find a record's partition, None: the number that it had."""
        return None if self.same else self._by_key

    def _by_key(self, copy: Copy) -> int:
        return copy.partition % self.partitions if copy.key is None else topics.partition_of(copy.key, self.partitions)


def target(to: str, counts: Mapping[str, int]) -> Target:
    """Find the topic that is meant; `counts` says how many partitions each one has.

    Raises:
        UnfitTarget: it is missing, or one of the pipeline's own that is no replay topic.
    """
    consumer = to if to in names() else None
    topic = topics.replay(to) if consumer else to
    live = counts.get(topics.DIAL_RESULTS)
    if live is None:
        raise UnfitTarget(f"there is no topic {topics.DIAL_RESULTS}: `dial-results topics apply` makes it")
    if topic == topics.DIAL_RESULTS or (consumer is None and topic.startswith(topics.DIAL_RESULTS + ".")):
        raise UnfitTarget(f"{to} is the pipeline's own: name a consumer ({', '.join(names())}) or a topic of yours")
    if topic not in counts:
        raise UnfitTarget(f"there is no topic {topic}" + ("" if consumer else f", and no consumer {to}"))
    if consumer and counts[topic] != live:
        raise UnfitTarget(f"{topic} has {counts[topic]} partitions, the live topic {live}: the consumer refuses that")
    return Target(topic, consumer, counts[topic], counts[topic] == live)
