"""How a process of ours reaches Kafka, in plain values: what `KafkaSettings` read, without what it takes to read them.

pydantic takes 13 MB of memory; a process that is handed its settings need not load it.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import msgspec


class KafkaClient(msgspec.Struct, frozen=True, kw_only=True):
    """As `KafkaSettings` has them; files are paths. Its `repr` shows no secret."""

    bootstrap_servers: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = ""
    sasl_username: str | None = None
    sasl_password: str | None = None
    sasl_password_file: str | None = None
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None

    def __repr__(self) -> str:
        return f"KafkaClient({self.security_protocol})"

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments that aiokafka's clients share. Reads the password's and certificates' files.

        Raises:
            OSError: a file is missing or cannot be read.
        """
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.endswith("SSL"):
            options["ssl_context"] = self._ssl_context()
        if self.security_protocol.startswith("SASL"):
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self._password(),
            }
        return options

    def _ssl_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ssl_cafile)
        if self.ssl_certfile:
            context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile)
        return context

    def _password(self) -> str | None:
        if self.sasl_password_file:
            return Path(self.sasl_password_file).read_text().strip()
        return self.sasl_password
