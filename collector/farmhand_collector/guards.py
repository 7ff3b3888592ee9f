"""Who may ask a running collector, and over what: tokens and TLS as the configuration has them."""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from farmhand_collector import tls_connections
from farmhand_collector import tokens as token_file
from farmhand_collector.access import Access, of_token
from farmhand_collector.config import Config, has_tokens, is_exposed, speaks_tls, tokens
from farmhand_collector.tokens import AnyOf, Scope, Tokens

log = logging.getLogger(__name__)


class Guards:
    """What stands before the endpoints of one collector."""

    def __init__(self, config: Config) -> None:
        """Read tokens and certificates.

        Raises:
            ConfigError: they are damaged, or cannot be read or written.
        """
        data_dir = Path(config.data_dir)
        write, read = tokens(config)
        self._tokens = Tokens(token_file.path_in(data_dir)) if has_tokens(config) else None
        self.write = self._access(write, Scope.WRITE)
        """Who may write readings."""
        self.read = self._access(read, Scope.READ)
        """Who may ask about the farm."""
        self.tasks: list[Callable[[], object]] = [self._tokens.tend] if self._tokens else []
        """What is to be done now and then while the collector runs."""
        self.tls: ssl.SSLContext | None = None
        self.scheme = "http"
        self._authority_pem = b""
        if speaks_tls(config):
            self._begin_tls(config, data_dir)
        if is_exposed(config):
            log.warning(
                "listen.insecure: WITHOUT TLS on %s, tokens and readings are there for all to see",
                config.listen.address,
            )

    def routes(self) -> list[Route]:
        """`/ca.pem`, by which nodes that join get to know who vouches for this server."""
        return [Route("/ca.pem", self._authority)] if self.tls else []

    async def _authority(self, _request: Request) -> Response:
        return Response(self._authority_pem, media_type="application/x-pem-file")

    def _access(self, shared: str | None, scope: Scope) -> Access:
        """By a shared token or one of our own; by none only where there are neither."""
        if self._tokens is None:
            return of_token(shared)
        own = self._tokens.access(scope)
        return own if shared is None else AnyOf([of_token(shared), own])

    def _begin_tls(self, config: Config, data_dir: Path) -> None:
        # Only here: it costs a collector on loopback memory that it has no use for.
        from farmhand_collector import certificates

        tls_connections.bound()
        listen = config.listen
        server = certificates.Server(
            certificates.Folder(data_dir),
            lambda: certificates.names_of_machine(listen.names, listen.address),
        )
        self.tls, self.scheme = server.context, "https"
        self._authority_pem = server.authority_pem
        self.tasks.append(server.tend)
