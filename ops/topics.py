"""`dial-results topics apply`: create the topics that are missing, report those that are not as they should be."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from consumers.finding import names
from ops.kafka import client_options
from schemas.clients import started
from schemas.topics import TopicSpec, topic_specs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHECK_FAILED, USAGE, TRY_LATER = 1, 2, 75
_ANSWER_S = 60.0  # for all of it; a broker that has just started may take a while to name a controller
_AGAIN_S = 0.1
_STOP_S = 1.0


class TopicRefused(Exception):  # noqa: N818  # a state of affairs
    """The cluster does not create a topic; the message says which and why."""


class Applied(NamedTuple):
    """What was (or, on a dry run, would be) created, and how the others differ, in sentences."""

    created: list[str]
    differences: list[str]


async def apply(options: Mapping[str, Any], specs: Sequence[TopicSpec], *, dry_run: bool = False) -> Applied:
    """Create what is missing, and return when every broker that we ask knows of it. Changes nothing that is there.

    Raises:
        TopicRefused: the cluster does not create one (not enough brokers, no right to).
        KafkaError, OSError, TimeoutError: no broker answers.
    """
    admin = AIOKafkaAdminClient(**options)
    async with asyncio.timeout(_ANSWER_S), started(admin, _ANSWER_S, _STOP_S):
        there = set(await admin.list_topics())
        missing = [spec for spec in specs if spec.name not in there]
        if missing and not dry_run:
            await _create(admin, missing)
        differences = await _differences(admin, [spec for spec in specs if spec.name in there])
    return Applied([spec.name for spec in missing], differences)


async def _create(admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec]) -> None:
    wanted = [NewTopic(s.name, s.partitions, s.replication_factor, topic_configs=s.config) for s in specs]
    while not await _taken(admin, wanted):
        await asyncio.sleep(_AGAIN_S)
    while not await _visible(admin, [spec.name for spec in specs]):
        await asyncio.sleep(_AGAIN_S)


async def _taken(admin: AIOKafkaAdminClient, wanted: list[NewTopic]) -> bool:
    """Ask the cluster to create topics; return False where it has to be asked again, as between two controllers."""
    response = await admin.create_topics(wanted)
    answers = [(name, for_code(code), message) for name, code, *message in response.topic_errors if code]
    for name, error, message in answers:
        if error is not TopicAlreadyExistsError and not error.retriable:  # somebody else may create them just now
            raise TopicRefused(f"{name}: {error.__name__} {message[0] if message and message[0] else ''}".rstrip())
    return all(error is TopicAlreadyExistsError for _, error, _ in answers)


async def _visible(admin: AIOKafkaAdminClient, names: list[str]) -> bool:
    described = await admin.describe_topics(names)
    return all(not topic["error_code"] and _all_led(topic) for topic in described)


def _all_led(topic: Mapping[str, Any]) -> bool:
    return all(not partition["error_code"] for partition in topic["partitions"])


async def _differences(admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec]) -> list[str]:
    if not specs:
        return []
    described = {topic["topic"]: topic for topic in await admin.describe_topics([spec.name for spec in specs])}
    resources = [ConfigResource(ConfigResourceType.TOPIC, spec.name) for spec in specs]
    configs = await _configs(admin, resources)
    return [said for spec in specs for said in _differs(spec, described[spec.name], configs.get(spec.name, {}))]


async def _configs(admin: AIOKafkaAdminClient, resources: list[ConfigResource]) -> dict[str, dict[str, str]]:
    found = {}
    for response in await admin.describe_configs(resources):
        for _code, _message, _type, name, entries in response.resources:
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


def _differs(spec: TopicSpec, topic: Mapping[str, Any], config: Mapping[str, str]) -> list[str]:
    if topic["error_code"]:
        raise UnknownTopicOrPartitionError(spec.name)
    partitions = topic["partitions"]
    is_and_should = {
        "partitions": (len(partitions), spec.partitions),
        "replicas": (min(len(partition["replicas"]) for partition in partitions), spec.replication_factor),
        **{name: (config.get(name), value) for name, value in spec.config.items()},
    }
    return [
        f"{spec.name}: {what} is {is_}, should be {should}"
        for what, (is_, should) in is_and_should.items()
        if is_ != should
    ]


@click.group()
def topics() -> None:
    """Kafka's topics: create what is missing, report what differs."""


@topics.command("apply", epilog="Example: dial-results topics apply --bootstrap-servers kafka-1:9092 --dry-run")
@click.option("--bootstrap-servers", help="host:port of brokers; KAFKA_BOOTSTRAP_SERVERS by default.")
@click.option("--replication-factor", type=click.IntRange(1, 32), default=3, show_default=True, help="Copies of each.")
@click.option("--dry-run", is_flag=True, help="Say what would be created, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def apply_command(bootstrap_servers: str | None, replication_factor: int, dry_run: bool, as_json: bool) -> None:
    """Create the topics that are missing; say where others differ from what they should be, and change none of those.

    TLS and passwords come from KAFKA_... as for every process. Exits with 1 where a topic differs or is refused, with
    75 where no broker answers.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it is said at the end
    try:
        applied = asyncio.run(
            apply(client_options(bootstrap_servers), topic_specs(replication_factor, tuple(names())), dry_run=dry_run)
        )
    except TopicRefused as error:
        _end(CHECK_FAILED, f"topics: the cluster refuses {error}")
    except (KafkaError, OSError, TimeoutError) as error:
        _end(TRY_LATER, f"topics: no answer from Kafka ({type(error).__name__}); nothing is known to be changed")
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, **applied._asdict()}))
    else:
        _show(applied, dry_run=dry_run)
    sys.exit(CHECK_FAILED if applied.differences else 0)


def _show(applied: Applied, *, dry_run: bool) -> None:
    for name in applied.created:
        click.echo(f"{'would create' if dry_run else 'created'} {name}")
    for said in applied.differences:
        click.echo(said)
    if not (applied.created or applied.differences):
        click.echo("topics: all there, all as they should be")


def _end(code: int, message: str) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)
