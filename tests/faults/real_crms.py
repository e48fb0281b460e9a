"""Servers that nobody here wrote, from the package registries: django-crm (MIT) and Tryton (GPL-3), for tests alone.

Each gets a virtual environment of its own, kept in `FAULTS_REAL_CRMS` (default: a folder in the user's cache).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.services import free_port

INSTALL_S = 900
START_S = 120.0
DJANGO_CRM = ("django-crm==1.35.0", "gunicorn")
TRYTON = ("trytond==8.2.1", "trytond-party==8.2.0", "psycopg[binary,pool]")

DJANGO_SETUP = """
import sys, django
django.setup()
from common.models import Org
from common.tasks import set_rls_context
from leads.models import LeadIntake
org = Org.objects.create(name="Made up")
set_rls_context(org.id)
print(LeadIntake.objects.create(org=org, name="dial results", key=sys.argv[1]).id)
"""

DJANGO_COUNT = """
import django
django.setup()
from common.models import Org
from common.tasks import set_rls_context
from leads.models import Lead
set_rls_context(Org.objects.get().id)
print(*sorted(Lead.objects.values_list("external_id", flat=True)))
"""

TRYTON_SETUP = """
import sys
from trytond.config import config
config.update_etc(sys.argv[1])
from trytond.pool import Pool
from trytond.transaction import Transaction
Pool.start()
pool = Pool(sys.argv[2])
pool.init()
with Transaction().start(sys.argv[2], 1):
    admin, = pool.get("res.user").search([("login", "=", "admin")])
    application = pool.get("res.user.application")(user=admin, application="rest", state="validated")
    application.save()
    print(application.key)
"""


@dataclass(frozen=True)
class RealCrm:
    """A server that runs: where it is, what opens it, and which event ids it holds, each as often as it does."""

    url: str
    path: str
    token: str
    python: Path
    environment: dict[str, str]

    async def event_ids(self) -> list[str]:
        """Return the event ids of django-crm's leads."""
        return (await _run(self.python, ("-c", DJANGO_COUNT), self.environment)).split()


def installed(name: str, packages: Sequence[str]) -> Path:
    """Return the Python of a virtual environment with these; skips, loudly, where it cannot be had."""
    folder = Path(os.environ.get("FAULTS_REAL_CRMS") or Path.home() / ".cache" / "dial-results" / "real-crms") / name
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    try:
        subprocess.run((_python_312(), "-m", "venv", str(folder)), check=True, timeout=INSTALL_S)
        subprocess.run((str(python), "-m", "pip", "install", "--quiet", *packages), check=True, timeout=INSTALL_S)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"SKIPPED: {name} cannot be installed: {error}")
    (folder / "complete").touch()
    return python


def _python_312() -> str:
    """Return a Python of 3.12 or newer."""
    pyenv = sorted(Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv").glob("versions/3.1[2-9]*/bin/python"))
    named = [found for name in ("python3.13", "python3.12", "python3.14") if (found := shutil.which(name))]
    for candidate in (sys.executable, *named, *map(str, pyenv)):
        new = (candidate, "-c", "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))")
        if subprocess.run(new, check=False, capture_output=True).returncode == 0:
            return candidate
    pytest.skip("SKIPPED: no Python 3.12 or newer on this machine (REAL CRMs need one)")


@asynccontextmanager
async def django_crm(dsn: str, folder: Path) -> AsyncIterator[RealCrm]:
    """Run django-crm on an empty database. Its migrations take two minutes."""
    python = await asyncio.to_thread(installed, "django-crm", DJANGO_CRM)
    place, port, key = urlsplit(dsn), free_port(), secrets.token_urlsafe(24)
    environment = {
        "DJANGO_SETTINGS_MODULE": "crm.settings",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "DBNAME": place.path.lstrip("/"),
        "DBUSER": str(place.username),
        "DBPASSWORD": str(place.password),
        "DBHOST": str(place.hostname),
        "DBPORT": str(place.port),
        "CELERY_BROKER_URL": "memory://",
        "FRONTEND_URL": "http://127.0.0.1",
        "ALLOWED_HOSTS": "127.0.0.1",
    }
    await _run(python, ("-m", "django", "migrate"), environment)
    intake = (await _run(python, ("-c", DJANGO_SETUP, key), environment)).split()[-1]
    command = ("-m", "gunicorn", "crm.wsgi:application", "-b", f"127.0.0.1:{port}", "--threads", "4")
    with _running(python, command, environment, folder / "django-crm.log"):
        url = f"http://127.0.0.1:{port}"
        await _listens(url)
        yield RealCrm(url, f"/api/public/leads/{intake}/", key, python, environment)


@asynccontextmanager
async def tryton(dsn: str, folder: Path) -> AsyncIterator[RealCrm]:
    """Run Tryton with its parties on an empty database."""
    python = await asyncio.to_thread(installed, "trytond", TRYTON)
    server, _, database = dsn.rpartition("/")
    port, config, password = free_port(), folder / "trytond.conf", folder / "password"
    config.write_text(f"[database]\nuri = {server}/\n[web]\nlisten = 127.0.0.1:{port}\n")
    password.write_text(secrets.token_urlsafe(16))
    environment = {"TRYTONPASSFILE": str(password)}
    bin_folder = python.parent
    settings = ("-c", str(config), "-d", database)
    for more in (("--all", "--email", "admin@example.com"), ("-u", "party", "--activate-dependencies")):
        await _run(python, (str(bin_folder / "trytond-admin"), *settings, *more), environment)
    key = (await _run(python, ("-c", TRYTON_SETUP, str(config), database), environment)).split()[-1]
    with _running(python, (str(bin_folder / "trytond"), *settings), environment, folder / "trytond.log"):
        url = f"http://127.0.0.1:{port}"
        await _listens(url)
        yield RealCrm(url, f"/{database}/rest/model/party.party", key, python, environment)


async def _run(python: Path, arguments: Sequence[str], environment: dict[str, str]) -> str:
    def run() -> str:
        done = subprocess.run(
            (str(python), *arguments),
            env=_clean() | environment,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
        assert done.returncode == 0, f"{arguments[:2]}: {done.stderr[-2_000:]}"
        return done.stdout

    return await asyncio.to_thread(run)


@contextmanager
def _running(python: Path, arguments: Sequence[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("ab") as out:
        process = subprocess.Popen((str(python), *arguments), env=_clean() | environment, stdout=out, stderr=out)
    try:
        yield
    finally:
        process.terminate()
        process.wait(START_S)


def _clean() -> dict[str, str]:
    """Return our environment without what would lead another Python to our code."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


async def _listens(url: str) -> None:
    async with asyncio.timeout(START_S), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)


async def parties(crm: RealCrm) -> list[str]:
    """Return the codes of Tryton's parties."""
    headers = {"Authorization": f"bearer {crm.token}"}
    async with (
        aiohttp.ClientSession(crm.url, headers=headers) as session,
        session.get(crm.path, params=[("f", "code")]) as answer,
    ):
        found: list[dict[str, Any]] = await answer.json()
    return [one["code"] for one in found]
