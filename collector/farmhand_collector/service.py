"""The collector as a service: store, judging and HTTP server put together."""

import logging
import os
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from farmhand_agent import systemd
from farmhand_agent.command import FailedError
from farmhand_collector.api import Api
from farmhand_collector.backup import Backups
from farmhand_collector.config import Config
from farmhand_collector.guards import Guards
from farmhand_collector.history import History, Roller
from farmhand_collector.http_server import Door
from farmhand_collector.ingest import Ingest, Limits
from farmhand_collector.ledger import Ledger, LedgerError
from farmhand_collector.live import Live
from farmhand_collector.metrics import Metrics
from farmhand_collector.store.base import StoreError
from farmhand_collector.store.choice import Stores, opened
from farmhand_collector.upkeep import Upkeep
from farmhand_collector.view import View

log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 3
FIRST_PASSED_FD = 3


def run(config: Config, listening_fd: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT, on a socket that was passed or as configured.

    Raises:
        ConfigError: tokens or certificates cannot be used.
        FailedError: the address or the data cannot be had now.
    """
    guards = Guards(config)
    # The server passes a signal on when it has shut down; it must find a way out through `finally`.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    data_dir = Path(config.data_dir)
    with ExitStack() as clean_up:
        try:
            listener = clean_up.enter_context(_listener(config, listening_fd or _activated_fd()))
            stores = clean_up.enter_context(closing(_stores(config, data_dir)))
            ledger = clean_up.enter_context(closing(Ledger(data_dir / "farm.sqlite")))
        except (OSError, StoreError, LedgerError) as error:
            raise FailedError(str(error)) from None
        _serve(config, guards, stores, ledger, listener)


def _stores(config: Config, data_dir: Path) -> Stores:
    keep = config.keep
    return opened(
        config.store,
        data_dir,
        days=keep.days,
        kept_days=keep.kept_days,
        disk_bytes=keep.disk_bytes,
    )


def _listener(config: Config, listening_fd: int | None) -> socket.socket:
    if listening_fd is not None:
        return socket.socket(fileno=listening_fd)
    address = (config.listen.address, config.listen.port)
    family = socket.AF_INET6 if ":" in config.listen.address else socket.AF_INET
    try:
        return socket.create_server(address, family=family, backlog=2048)
    except OSError as error:
        told = f"cannot listen on {address[0]} port {address[1]}: {error.strerror}"
        raise FailedError(told) from None


def _leave(number: int, frame: object) -> None:
    del number, frame
    raise SystemExit(0)


def _serve(
    config: Config, guards: Guards, stores: Stores, ledger: Ledger, listener: socket.socket
) -> None:
    store, days = stores.raw, config.keep.days
    view = View(config.simulated)
    # A simulated farm brings its own past; real time must not run ahead of it.
    pulse_site = None if config.simulated else config.site
    live = Live(store, ledger, view, pulse_site, lambda: systemd.notify("WATCHDOG=1"))
    history = History(store, stores.kept, raw_days=days)
    door, backups = Door(), Backups(config)
    ingest = Ingest(store, guards.write, limits=Limits(retention_days=days))
    memory = Path(config.data_dir) / "five_minutes.json"
    beside: list[Upkeep | Roller | Backups] = [
        Upkeep([*guards.tasks, lambda: stores.kept.expire(time.time_ns())]),
        Roller(store, stores.kept, memory, raw_days=days),
        backups,
    ]
    metrics = Metrics(
        view,
        store,
        data_dir=Path(config.data_dir),
        ingest=ingest.counts,
        judging=live.counts,
        backups=backups,
        connections=lambda: door.counts.open,
    )
    api = Api(view, ledger, store, history, guards.read, metrics)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        api.listen()
        live.start()
        for one in beside:
            one.start()
        where = (guards.scheme, *listener.getsockname()[:2])
        log.info("judging what is written to %s://%s:%d", *where)
        systemd.notify("READY=1")
        yield
        systemd.notify("STOPPING=1")
        live.stop()
        for one in beside:
            one.stop()

    app = Starlette(routes=[*ingest.routes(), *api.routes(), *guards.routes()], lifespan=lifespan)
    uvicorn.Server(_server_config(app, door, guards.tls)).run(sockets=[listener])


def _server_config(app: Starlette, door: Door, tls: ssl.SSLContext | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=door.protocol(),
        ws="none",
        ssl_context_factory=None if tls is None else lambda *_: tls,
        log_config=None,
        access_log=False,
        server_header=False,
        # Limits are told by address: that of the peer, not what a header says of it.
        proxy_headers=False,
        timeout_keep_alive=door.idle_limit_of_server(),
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def _activated_fd() -> int | None:
    """The listening socket that systemd passed, if it did."""
    mine = os.environ.get("LISTEN_PID") == str(os.getpid())
    return FIRST_PASSED_FD if mine and os.environ.get("LISTEN_FDS") == "1" else None
