"""The collector as a service: store, judging and HTTP server put together."""

import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from farmhand_agent import systemd
from farmhand_agent.command import FailedError
from farmhand_collector.access import of_token
from farmhand_collector.api import Api
from farmhand_collector.config import Config, tokens
from farmhand_collector.ingest import Ingest, Limits
from farmhand_collector.ledger import Ledger, LedgerError
from farmhand_collector.live import Live
from farmhand_collector.store.base import StoreError
from farmhand_collector.store.embedded import EmbeddedStore
from farmhand_collector.view import View

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 75
"""Longer than the interval of an agent, so that each post need not connect anew."""
MOST_CONNECTIONS = 2000
SHUTDOWN_SECONDS = 3
FIRST_PASSED_FD = 3


def run(config: Config, listening_fd: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT, on a socket that was passed or as configured.

    Raises:
        FailedError: the address or the data cannot be had now.
    """
    # The server passes a signal on when it has shut down; it must find a way out through `finally`.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    data_dir = Path(config.data_dir)
    with ExitStack() as clean_up:
        try:
            listener = clean_up.enter_context(_listener(config, listening_fd or _activated_fd()))
            store = clean_up.enter_context(closing(_store(config, data_dir / "readings")))
            ledger = clean_up.enter_context(closing(Ledger(data_dir / "farm.sqlite")))
        except (OSError, StoreError, LedgerError) as error:
            raise FailedError(str(error)) from None
        _serve(config, store, ledger, listener)


def _store(config: Config, directory: Path) -> EmbeddedStore:
    return EmbeddedStore(
        directory, retention_days=config.keep.days, most_bytes=config.keep.disk_bytes
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


def _serve(config: Config, store: EmbeddedStore, ledger: Ledger, listener: socket.socket) -> None:
    view = View(config.simulated)
    # A simulated farm brings its own past; real time must not run ahead of it.
    pulse_site = None if config.simulated else config.site
    live = Live(store, ledger, view, pulse_site, lambda: systemd.notify("WATCHDOG=1"))
    write_token, read_token = tokens(config)
    api = Api(view, ledger, store, of_token(read_token))
    ingest = Ingest(store, of_token(write_token), limits=Limits(retention_days=config.keep.days))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        api.listen()
        live.start()
        log.info("judging what is written to http://%s:%d", *listener.getsockname()[:2])
        systemd.notify("READY=1")
        yield
        systemd.notify("STOPPING=1")
        live.stop()

    app = Starlette(routes=[*ingest.routes(), *api.routes()], lifespan=lifespan)
    uvicorn.Server(_server_config(app)).run(sockets=[listener])


def _server_config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        limit_concurrency=MOST_CONNECTIONS,
    )


def _activated_fd() -> int | None:
    """The listening socket that systemd passed, if it did."""
    mine = os.environ.get("LISTEN_PID") == str(os.getpid())
    return FIRST_PASSED_FD if mine and os.environ.get("LISTEN_FDS") == "1" else None
