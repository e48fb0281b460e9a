from __future__ import annotations

import json
import logging
import ssl
from pathlib import Path

import certifi
import pytest
import structlog

from schemas.kafka import KafkaSettings
from schemas.logs import configure_logging


def test_plain_settings_name_the_brokers_only() -> None:
    assert KafkaSettings(bootstrap_servers="a:1,b:2").client_options() == {
        "bootstrap_servers": "a:1,b:2",
        "security_protocol": "PLAINTEXT",
    }


def test_login_and_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("s3cret\n")
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("KAFKA_SASL_USERNAME", "receiver")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD_FILE", str(password))
    monkeypatch.setenv("KAFKA_SSL_CAFILE", certifi.where())
    options = KafkaSettings().client_options()
    context = options.pop("ssl_context")
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert options == {
        "bootstrap_servers": "127.0.0.1:9092",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "receiver",
        "sasl_plain_password": "s3cret",
    }


def test_a_password_is_not_shown_by_accident() -> None:
    settings = KafkaSettings(security_protocol="SASL_PLAINTEXT", sasl_username="u", sasl_password="s3cret")
    assert "s3cret" not in repr(settings) + repr(settings.client())
    assert settings.client_options()["sasl_plain_password"] == "s3cret"


def test_a_missing_certificate_is_an_error_at_once(tmp_path: Path) -> None:
    settings = KafkaSettings(security_protocol="SSL", ssl_cafile=tmp_path / "none.pem")
    with pytest.raises(OSError, match="No such file"):
        settings.client_options()


@pytest.fixture
def untouched_logging() -> object:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    root.handlers[:], root.level = before
    structlog.reset_defaults()
    for name in ("aiokafka", "asyncio", "aiohttp"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.usefixtures("untouched_logging")
def test_log_lines_are_json_whoever_writes_them(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("receiver", "debug")
    structlog.get_logger().info("journal_opened", waiting=3)
    logging.getLogger("some.library").warning("line\nbreak %s", "x")
    logging.getLogger("aiokafka").debug("a key and a value")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["journal_opened", "line\nbreak x"]
    assert all(line["process"] == "receiver" and line["timestamp"].endswith("Z") for line in lines)


@pytest.mark.usefixtures("untouched_logging")
def test_an_exception_is_logged_by_type_and_place_without_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("storage", "info")
    try:
        int("Zebediah Quillfeather")
    except ValueError:
        structlog.get_logger().exception("write_failed")
        logging.getLogger("some.library").exception("it failed")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["error"] for line in lines] == ["ValueError", "ValueError"]
    assert all("test_process_settings.py:" in line["raised_at"] for line in lines)
    assert not any("invalid literal" in json.dumps(line) for line in lines)
