"""The collector as a service: store, judging and HTTP server put together."""

import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from farmhand_agent import systemd
from farmhand_collector.api import Api
from farmhand_collector.config import Config, tokens
from farmhand_collector.ingest import Ingest
from farmhand_collector.ledger import Ledger
from farmhand_collector.live import Live
from farmhand_collector.store.embedded import EmbeddedStore
from farmhand_collector.view import View

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 75
"""Longer than the interval of an agent, so that each post need not connect anew."""
MOST_CONNECTIONS = 2000
SHUTDOWN_SECONDS = 3
FIRST_PASSED_FD = 3


def run(config: Config, listening_fd: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT, on a socket that was passed or as configured."""
    # The server passes a signal on when it has shut down; it must find a way out through `finally`.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    data_dir = Path(config.data_dir)
    store = EmbeddedStore(
        data_dir / "readings",
        retention_days=config.keep.days,
        most_bytes=config.keep.disk_bytes,
    )
    ledger = Ledger(data_dir / "farm.sqlite")
    try:
        _serve(config, store, ledger, listening_fd or _activated_fd())
    finally:
        store.close()
        ledger.close()


def _leave(number: int, frame: object) -> None:
    del number, frame
    raise SystemExit(0)


def _serve(config: Config, store: EmbeddedStore, ledger: Ledger, listening_fd: int | None) -> None:
    view = View(config.simulated)
    # A simulated farm brings its own past; real time must not run ahead of it.
    live = Live(store, ledger, view, None if config.simulated else config.site)
    write_token, read_token = tokens(config)
    api = Api(view, ledger, store, read_token)
    ingest = Ingest(store, write_token)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        api.listen()
        live.start()
        log.info("judging what is written to http://%s:%d", *_address(config, listening_fd))
        systemd.notify("READY=1")
        yield
        systemd.notify("STOPPING=1")
        live.stop()

    app = Starlette(routes=[*ingest.routes(), *api.routes()], lifespan=lifespan)
    server = uvicorn.Server(_server_config(app, config))
    passed = None if listening_fd is None else [socket.socket(fileno=listening_fd)]
    server.run(sockets=passed)


def _server_config(app: Starlette, config: Config) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=config.listen.address,
        port=config.listen.port,
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        limit_concurrency=MOST_CONNECTIONS,
    )


def _address(config: Config, listening_fd: int | None) -> tuple[str, int]:
    if listening_fd is None:
        return config.listen.address, config.listen.port
    with socket.socket(fileno=os.dup(listening_fd)) as passed:
        address: tuple[str, int] = passed.getsockname()[:2]
        return address


def _activated_fd() -> int | None:
    """The listening socket that systemd passed, if it did."""
    mine = os.environ.get("LISTEN_PID") == str(os.getpid())
    return FIRST_PASSED_FD if mine and os.environ.get("LISTEN_FDS") == "1" else None
