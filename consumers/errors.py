"""Why a consumer ends by itself, with the exit code that tells a supervisor what to do. All else is a bug: code 1."""

from __future__ import annotations

TRY_AGAIN = 75
ON_PURPOSE = 78


class ConsumerStops(Exception):  # noqa: N818  # the root of the reasons below
    """The consumer ends without committing what is not done; the message says why, without personal data."""

    exit_code = TRY_AGAIN


class TopicsUnfit(ConsumerStops):
    """A topic is missing, or replay and live topic differ in partitions: `dial-results topics apply` mends that."""


class KafkaRefuses(ConsumerStops):
    """Kafka refused something that waiting in this process will not mend, such as an authorisation."""


class StandsStill(ConsumerStops):
    """There is work and a healthy sink, and nothing moves: a new process and a new client are the remedy."""


class TooManyRejects(ConsumerStops):
    """The sink or the decoder refuses everything. Nothing of that run is dead-lettered or committed: a human looks."""

    exit_code = ON_PURPOSE


class Interrupted(Exception):  # noqa: N818  # nothing is wrong
    """The partitions change hands, or the process stops: whoever has them next is given the batch again."""
