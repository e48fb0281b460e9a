"""How every process of ours reaches Kafka: one set of settings, read from `KAFKA_...`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from .kafka_client import KafkaClient


class KafkaSettings(BaseSettings):
    """Connection to the cluster. A password file (`KAFKA_SASL_PASSWORD_FILE`) wins over the password itself."""

    model_config = SettingsConfigDict(env_prefix="KAFKA_", frozen=True)

    bootstrap_servers: str = Field(
        "127.0.0.1:9092", description="host:port of one or more brokers, separated by commas"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how to talk to the brokers"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="how to log in, with a SASL_ protocol"
    )
    sasl_username: str | None = Field(None, description="user, with a SASL_ protocol")
    sasl_password: SecretStr | None = Field(None, description="password, with a SASL_ protocol")
    sasl_password_file: Path | None = Field(None, description="file that holds the password instead")
    ssl_cafile: Path | None = Field(None, description="certificate authority of the brokers; the system's by default")
    ssl_certfile: Path | None = Field(None, description="our certificate, for mutual TLS")
    ssl_keyfile: Path | None = Field(None, description="the key of our certificate")

    def client(self) -> KafkaClient:
        """Return the same in plain values, the password among them."""
        said = {name: str(value) for name, value in self.model_dump(exclude_none=True).items()}
        if self.sasl_password:
            said["sasl_password"] = self.sasl_password.get_secret_value()
        return KafkaClient(**said)

    def client_options(self) -> dict[str, Any]:
        """Return the keyword arguments that aiokafka's clients share. Reads the certificate files.

        Raises:
            OSError: a file is missing or cannot be read.
        """
        return self.client().options()
