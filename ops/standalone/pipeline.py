"""All parts of the pipeline on one machine: what each is started with, and in which order."""

from __future__ import annotations

import hashlib
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from ops.standalone import jars
from ops.standalone.kafka import LocalKafka, answers, identity_of, new_identity
from ops.standalone.postgres import LocalPostgres
from ops.standalone.process import Part
from ops.token import new_token
from schemas.merchants import load_merchants
from schemas.topics import CONSUMERS, topic_specs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ops.standalone.folder import DataFolder

MERCHANT = "demo"
PARTS = ("kafka", "postgres", "sandbox-crm", "receiver", *CONSUMERS)
_ROOT = Path(__file__).parents[2]
_ANSWER = aiohttp.ClientTimeout(total=3)


@dataclass(frozen=True)
class Pipeline:
    """Addresses, secrets and parts of one data folder."""

    folder: DataFolder
    ports: Mapping[str, int]
    secrets: Mapping[str, str]
    kafka: LocalKafka
    postgres: LocalPostgres
    token: str

    @property
    def callback_url(self) -> str:
        return f"{self.url('receiver')}/callbacks/{self.token}"

    @property
    def analytics_uri(self) -> str:
        return str(self.folder.path / "analytics" / "dial_results")

    def url(self, port: str) -> str:
        return f"http://127.0.0.1:{self.ports[port]}"

    def up_json(self, pids: Mapping[str, int | None]) -> dict[str, Any]:
        """Return what scripts read; names by decisions.md."""
        return {
            "merchant": MERCHANT,
            "token": self.token,
            "callback_url": self.callback_url,
            "receiver_admin_url": self.url("receiver-admin"),
            "consumer_admin_urls": {name: self.url(f"{name}-admin") for name in CONSUMERS},
            "kafka_bootstrap_servers": self.kafka.bootstrap_servers,
            "postgres_dsn": self.postgres.dsn,
            "analytics_uri": self.analytics_uri,
            "crm_url": self.url("sandbox-crm"),
            "topics": {spec.name: spec.partitions for spec in topic_specs(1)},
            "pids": dict(pids),
            "logs": {name: str(self.folder.log(name)) for name in PARTS},
            "java": self.kafka.java,
            "kafka_classpath": self.kafka.classpath,
        }

    def parts(self) -> dict[str, Part]:
        """Return all parts by name."""
        made = [self._kafka(), self._postgres(), self._sandbox_crm(), self._receiver(), *map(self._consumer, CONSUMERS)]
        return {part.name: part for part in made}

    def _kafka(self) -> Part:
        async def ready() -> bool:
            return await answers(self.kafka.bootstrap_servers)

        return Part("kafka", self.kafka.command(), self.folder.log("kafka"), ready)

    def _postgres(self) -> Part:
        log = self.folder.log("postgres")
        return Part("postgres", self.postgres.command(), log, self.postgres.is_ready, stop_signal=signal.SIGINT)

    def _sandbox_crm(self) -> Part:
        state = self.folder.path / "crm" / "state.jsonl"
        state.parent.mkdir(exist_ok=True)
        arguments = ("ops.standalone.crm", "--port", str(self.ports["sandbox-crm"]), "--state", str(state))
        environment = {"SANDBOX_CRM_TOKEN": self.secrets["crm_token"]}
        return self._python("sandbox-crm", arguments, environment, f"{self.url('sandbox-crm')}/healthz")

    def _receiver(self) -> Part:
        environment = {
            "RECEIVER_PORT": str(self.ports["receiver"]),
            "RECEIVER_ADMIN_PORT": str(self.ports["receiver-admin"]),
            "RECEIVER_MERCHANTS_FILE": str(self.folder.merchants_file),
            "RECEIVER_JOURNAL_DIR": str(self.folder.path / "journal"),
            **self._to_kafka(),
        }
        return self._python("receiver", ("receiver",), environment, f"{self.url('receiver-admin')}/healthz")

    def _consumer(self, name: str) -> Part:
        environment = {
            "CONSUMER_ADMIN_PORT": str(self.ports[f"{name}-admin"]),
            "CONSUMER_MERCHANTS_FILE": str(self.folder.merchants_file),
            "CONSUMER_RECEIPTS_DSN": self.postgres.dsn,
            **self._to_kafka(),
            **self._to_sink(name),
        }
        return self._python(name, ("consumers", name), environment, f"{self.url(f'{name}-admin')}/healthz")

    def _to_kafka(self) -> dict[str, str]:
        return {"KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers}

    def _to_sink(self, name: str) -> dict[str, str]:
        return {
            "storage": {"STORAGE_DSN": self.postgres.dsn},
            "analytics": {
                "ANALYTICS_URI": self.analytics_uri,
                "ANALYTICS_PSEUDONYM_KEY": self.secrets["pseudonym_key"],
                # Whoever deletes the folder `kafka` alone begins at offset 0 again; the table has to know.
                "ANALYTICS_EPOCH": self.kafka.identity,
            },
            "crm": {
                "CRM_URL": self.url("sandbox-crm"),
                "CRM_TOKEN": self.secrets["crm_token"],
                "CRM_LEDGER_DSN": self.postgres.dsn,
            },
        }[name]

    def _python(self, name: str, arguments: tuple[str, ...], environment: dict[str, str], ready_url: str) -> Part:
        command = (sys.executable, "-m", *arguments)
        return Part(name, command, self.folder.log(name), _answers_200(ready_url), environment, folder=_ROOT)


def prepare(folder: DataFolder, fixed_ports: Mapping[str, int]) -> Pipeline:
    """Choose ports and secrets, or take those of the last run; make the merchant's token. Blocks.

    Raises:
        MerchantsFileError: the merchants' file of an earlier run was made unreadable.
        OSError: the folder cannot be written, or no port is free.
    """
    ports, secrets = folder.ports(fixed_ports), folder.secrets()
    if not _may_post(folder, secrets.get("token", "")):
        secrets = {**secrets, "token": new_token(folder.merchants_file, MERCHANT)}
        folder.keep_secret("token", secrets["token"])
    home = folder.path / "kafka"
    identity = identity_of(home) or new_identity()
    kafka = LocalKafka(home, ports["kafka"], ports["kafka-controller"], jars.class_path(), identity)
    postgres = LocalPostgres(folder.path / "postgres", ports["postgres"], secrets["postgres_password"])
    return Pipeline(folder, ports, secrets, kafka, postgres, secrets["token"])


def _may_post(folder: DataFolder, token: str) -> bool:
    """Tell whether the token of the last run is still in the merchants' file."""
    if not (token and folder.merchants_file.exists()):
        return False
    merchant = load_merchants(folder.merchants_file).get(MERCHANT)
    sha256 = hashlib.sha256(token.encode()).hexdigest()
    return merchant is not None and any(known.sha256 == sha256 for known in merchant.tokens)


def _answers_200(url: str) -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        try:
            async with aiohttp.ClientSession(timeout=_ANSWER) as session, session.get(url) as response:
                return response.ok
        except (aiohttp.ClientError, TimeoutError):
            return False

    return ready
