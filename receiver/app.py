"""How the receiver is put together, and how it is taken apart."""

from __future__ import annotations

import asyncio
import resource
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import structlog

from receiver.access_log import AccessLog
from receiver.ack_wait import AckWait
from receiver.body import BodyLimits
from receiver.callbacks import Callbacks
from receiver.counts import Counts
from receiver.fast_callbacks import NoCallbacks
from receiver.fast_lane import missing_attributes
from receiver.health import Health
from receiver.journal import Disk, Journal, JournalFailed
from receiver.left_journals import LeftJournals, left_behind
from receiver.metrics import Metrics
from receiver.retry_window import RetryWindow
from receiver.server import CannotListenError, Server
from receiver.stalls import Stalls
from receiver.tls import Tls
from receiver.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from receiver.counts import PublishCounts
    from receiver.publishing import Publishing
    from receiver.settings import ReceiverSettings

log = structlog.get_logger()

DONE = 0
TRY_AGAIN = 75

_ADMIN_CONNECTIONS = 100  # scrapers and probes are few


class Receiver:
    """One receiver. `port` and `admin_port` are known, and callbacks are taken, once `started` is set."""

    def __init__(
        self,
        settings: ReceiverSettings,
        publishing: Callable[[Journal, PublishCounts], Publishing],
        disk: Disk | None = None,
    ) -> None:
        """Wire it; opens the journal, which blocks. Needs a running event loop. `disk` is for tests of worse ones.

        Raises:
            MerchantsFileError: there is no merchants' file, or it is broken.
            TlsFilesError: there is no usable certificate and key where they are asked for.
            JournalError: another process has the journal, or the disk is broken.
        """
        self._settings = settings
        self.counts = Counts()
        self.tokens = Tokens(settings.merchants_file)
        self.tls = _tls(settings)
        self.journal = Journal.open(settings.journal_dir, settings.journal_limits(), disk)
        self.stalls = Stalls()
        self._ack_wait = self._waiting_for_the_broker()
        self._window = RetryWindow(time.monotonic)
        self.callbacks = self._callbacks()
        left = left_behind(settings.journal_dir, settings.workers)
        self._left = LeftJournals(left, settings.journal_limits(), publishing, self.counts.publishing)
        fast_lane_fits = _fast_lane_fits()
        self._server = self._callback_server(fits=fast_lane_fits)
        self._admin = self._admin_server(fits=fast_lane_fits)
        self.publishing = publishing(self.journal, self.counts.publishing)
        self.started = asyncio.Event()
        self.port = self.admin_port = 0

    def _waiting_for_the_broker(self) -> AckWait | None:
        """Return None if no answer waits. Half of what may be under way may wait: it is never a reason to refuse."""
        settings = self._settings
        if not settings.broker_ack_wait_ms:
            return None
        wait = AckWait(settings.broker_ack_wait_ms / 1_000, max(1, settings.in_flight_cap // 2), self.counts)
        self.journal.on_published = wait.published
        return wait

    def _callbacks(self) -> Callbacks:
        settings = self._settings
        return Callbacks(
            self.tokens,
            self.journal,
            self.counts,
            self._window,
            AccessLog(settings.access_log, time.monotonic),
            BodyLimits(settings.body_cap_bytes, settings.body_timeout_s),
            settings.in_flight_cap,
            settings.door(),
            self._ack_wait,
        )

    def _callback_server(self, *, fits: bool) -> Server:
        """Return the merchants' server; where the fast lane does not fit, aiohttp has every connection to itself."""
        settings = self._settings
        return Server(
            self.callbacks.receive_callback,
            on_error=self.callbacks.on_error,
            keepalive_s=settings.keepalive_s,
            strangers_cap=_strangers_cap(settings),
            fast=None if not fits else self.callbacks if settings.fast_lane else NoCallbacks(),
        )

    def _admin_server(self, *, fits: bool) -> Server:
        return Server(
            Health(self._not_ready, self._metrics().text).answer,
            on_error=lambda _: None,
            keepalive_s=self._settings.keepalive_s,
            strangers_cap=_ADMIN_CONNECTIONS,
            fast=NoCallbacks() if fits else None,
        )

    def _metrics(self) -> Metrics:
        return Metrics(
            self.counts,
            self.journal,
            self.tokens,
            self._window,
            self._settings.journal_quota_bytes,
            self._server.open,
            self.stalls,
            self._left,
            self.tls,
        )

    def reload(self) -> None:
        """Read the merchants' file and the certificate now; broken ones keep what was read before."""
        self.tokens.reload()
        if self.tls is not None:
            self.tls.reload()

    async def run(self, stop: asyncio.Event) -> int:
        """Take callbacks until `stop` is set; return the exit code. A background task that dies ends it all.

        The order of stopping, each step with its limit:

        1. Answers that wait for the broker go out. The servers: see `Server.stop` (5 s). Meanwhile publishing goes on.
        2. The publisher gets what is left of the grace (5 s from the start of stopping); its client a second to close.
        3. The journal commits what waits, which is nothing, and closes (it gives up on a disk that hangs).

        What is not published by then stays in the journal, for the next start.
        """
        try:
            async with self._closing(), asyncio.TaskGroup() as tasks:
                publishing = tasks.create_task(self.publishing.run())
                following = [tasks.create_task(part.follow()) for part in (self.tokens, self.tls) if part is not None]
                watching = tasks.create_task(self.stalls.watch())
                left = tasks.create_task(self._left.publish())
                failing = tasks.create_task(self._fail_with_the_journal())
                async with self._listening():
                    await stop.wait()
                    grace_ends = time.monotonic() + self._settings.stop_grace_s
                await self._publish_on(max(0.0, grace_ends - time.monotonic()))
                for task in (publishing, *following, watching, left, failing):
                    task.cancel()
        except* (JournalFailed, CannotListenError) as errors:
            code = TRY_AGAIN
            log.error("receiver_ends", reason=str(errors.exceptions[0]), exit_code=code)  # noqa: TRY400
        else:
            code = DONE
            log.info("receiver_stopped", waiting=self.journal.waiting)
        return code

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        try:
            self.admin_port = await self._admin.listen(self._settings.admin_host, self._settings.admin_port)
            self.port = await self._server.listen(
                self._settings.host,
                self._settings.port,
                self.tls.context if self.tls is not None else None,
                shared=self._settings.workers > 1,
            )
            self.started.set()
            log.info("receiver_started", port=self.port, admin_port=self.admin_port, waiting=self.journal.waiting)
            yield
        finally:
            if self._ack_wait is not None:
                self._server.draining = True  # so that these, too, ask for their connections to be closed
                self._ack_wait.end()
            await self._server.stop()
            await self._admin.stop()

    @asynccontextmanager
    async def _closing(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self.journal.close()

    async def _not_ready(self) -> list[str]:
        states = {
            "journal-failed": self.journal.failed.is_set(),
            "journal-full": self.journal.full,
            "stopping": self._server.draining,
        }
        return [reason for reason, holds in states.items() if holds]

    async def _publish_on(self, grace_s: float) -> None:
        """Return when the journal is published, or the time is up, or at once while Kafka does not take anything."""
        if self.counts.publishing.stalled_for:
            return
        try:
            async with asyncio.timeout(grace_s):
                await self.journal.emptied()
        except TimeoutError:
            log.info("publishing_left_off", waiting=self.journal.waiting)

    async def _fail_with_the_journal(self) -> None:
        await self.journal.failed.wait()
        raise JournalFailed("the disk reported an error")


def _tls(settings: ReceiverSettings) -> Tls | None:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    return Tls(settings.tls_cert_file, settings.tls_key_file)


def _strangers_cap(settings: ReceiverSettings) -> int:
    """Return the cap; connections may take half of the files that we may open, since the journal needs some too."""
    return min(settings.strangers_cap, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


def _fast_lane_fits() -> bool:
    """Tell whether the fast lane fits the installed aiohttp; say so where it does not."""
    missing = missing_attributes()
    if missing:
        log.warning("fast_lane_off", aiohttp=aiohttp.__version__, missing=missing, consequence="slower, not less safe")
    return not missing
