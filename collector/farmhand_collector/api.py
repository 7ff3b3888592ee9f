"""The HTTP API over the view, the ledger and the store; `wire` holds what it says."""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from farmhand_agent.reading import Kind, fields_of
from farmhand_collector.access import Access
from farmhand_collector.block import Block
from farmhand_collector.capacity.roster import CardKey
from farmhand_collector.catalogue.words import UnknownLanguage, known_language
from farmhand_collector.exposition import CONTENT_TYPE
from farmhand_collector.history import History
from farmhand_collector.ledger import Ledger, LedgerError
from farmhand_collector.metrics import Metrics
from farmhand_collector.store.base import Store, StoreError
from farmhand_collector.translation import in_language
from farmhand_collector.view import COLUMNS, StaleCursorError, UnknownError, View
from farmhand_collector.wire import CAPACITY_SCOPES, CardDetail, Event, Series

LONGEST_WAIT_SECONDS = 60.0
MOST_POINTS = 2000
MOST_EVENTS = 100
_PLOTTABLE = frozenset(name for name, f in fields_of("card").items() if f.kind is not Kind.TEXT)

Handler = Callable[[Request], Awaitable[Response]]


class Api:
    """Answers questions about the farm; every answer is one of `wire`'s types as JSON."""

    def __init__(
        self,
        view: View,
        ledger: Ledger,
        store: Store,
        history: History,
        access: Access,
        metrics: Metrics | None = None,
    ) -> None:
        self._view = view
        self._metrics = metrics or Metrics(view, store)
        self._ledger = ledger
        self._store = store
        self._history = history
        self._access = access
        self._ticked = asyncio.Event()

    def routes(self) -> list[Route]:
        """Routes for the server; `listen` must be called in its event loop."""
        handlers: Mapping[str, Handler] = {
            "/v1/status": self._status,
            "/v1/snapshot": self._snapshot,
            "/v1/changes": self._changes,
            "/v1/findings": self._findings,
            "/v1/capacity": self._capacity,
            "/v1/what-if": self._what_if,
            "/v1/cards/{key}": self._card,
            "/v1/cards/{key}/series": self._series,
            "/metrics": self._metrics_page,
        }
        return [Route(path, self._guarded(handler)) for path, handler in handlers.items()]

    def listen(self) -> None:
        """Begin to hear of ticks, in the running event loop."""
        loop = asyncio.get_running_loop()
        self._view.listen(lambda: loop.call_soon_threadsafe(self._wake))

    def _wake(self) -> None:
        ticked, self._ticked = self._ticked, asyncio.Event()
        ticked.set()

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            try:
                self._authorize(request)
                return await handler(request)
            except HTTPException as error:
                return _json({"error": error.detail}, error.status_code)
            except StaleCursorError:
                return _json({"error": "stale cursor, take a new snapshot"}, 410)
            except UnknownError as error:
                return _json({"error": str(error)}, 404)
            except (StoreError, LedgerError) as error:
                return _json({"error": str(error)}, 503)

        return guarded

    def _authorize(self, request: Request) -> None:
        if self._access.grant(request.headers.get("Authorization", "")) is None:
            raise HTTPException(401, "wrong or missing token")

    async def _status(self, request: Request) -> Response:
        language = _language(request)
        state = await asyncio.to_thread(self._view.state)
        return _json(await asyncio.to_thread(in_language, state, language))

    async def _snapshot(self, request: Request) -> Response:
        return _json(self._view.snapshot(_columns(request)))

    async def _changes(self, request: Request) -> Response:
        cursor, columns = request.query_params.get("cursor", ""), _columns(request)
        wait = _number(request, "wait", 0.0, 0.0, LONGEST_WAIT_SECONDS)
        ticked = self._ticked
        if wait and not self._view.is_news(cursor):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ticked.wait(), wait)
        return _json(self._view.changes(cursor, columns))

    async def _findings(self, request: Request) -> Response:
        return _json(await asyncio.to_thread(self._view.findings, _language(request)))

    async def _capacity(self, request: Request) -> Response:
        by = request.query_params.get("by", CAPACITY_SCOPES[0])
        if by not in CAPACITY_SCOPES:
            raise HTTPException(400, f"by: {by!r}, expected one of {', '.join(CAPACITY_SCOPES)}")
        return _json(await asyncio.to_thread(self._view.capacity, by))

    async def _what_if(self, request: Request) -> Response:
        asked = request.query_params.getlist("cards")
        cards = [key for keys in asked for key in keys.split(",") if key]
        gang = request.query_params.get("gang", "")
        if not cards and not gang:
            raise HTTPException(400, "cards: missing, expected keys of cards or the name of a gang")
        return _json(await asyncio.to_thread(self._view.what_if, cards, gang))

    async def _card(self, request: Request) -> Response:
        language = _language(request)
        key, (card, verdict) = self._find(request)
        info, events = await asyncio.to_thread(self._told, key, card)
        return _json(CardDetail(key, in_language(verdict, language), info, events))

    def _find(self, request: Request) -> tuple[str, Any]:
        key = request.path_params["key"]
        found = self._view.card(key)
        if found is None:
            raise HTTPException(404, "no such card")
        return key, found

    def _told(self, key: str, card: CardKey) -> tuple[dict[str, Any], list[Event]]:
        tags = _series_tags(card)
        infos = list(self._store.latest("card_info", tags).readings())
        newest = max(infos, key=lambda reading: reading.time_ns, default=None)
        told = [
            Event(r.time_ns / 1e9, *(str(r.fields.get(f, "")) for f in ("kind", "code", "text")))
            for r in self._history.between("card_event", 0, 2**63 - 1, tags).readings()
        ]
        told += [
            Event(change.time, "verdict", change.state, change.text)
            for change in self._ledger.changes(key, MOST_EVENTS)
        ]
        told.sort(key=lambda event: -event.time)
        return dict(newest.fields) if newest else {}, told[:MOST_EVENTS]

    async def _series(self, request: Request) -> Response:
        key, (card, _) = self._find(request)
        fields = [name for name in request.query_params.get("fields", "").split(",") if name]
        for name in fields:
            if name not in _PLOTTABLE:
                raise HTTPException(400, f"fields: {name!r} is no number of a card")
        until = _number(request, "until", self._view.time or 0.0, 0.0, 1e11)
        since = _number(request, "since", until - 3600.0, 0.0, 1e11)
        points = int(_number(request, "points", 300, 1, MOST_POINTS))
        block = await asyncio.to_thread(
            self._history.between,
            "card",
            int(since * 1e9),
            int(until * 1e9),
            _series_tags(card),
            fields,
        )
        return _json(thinned(key, block, fields, since, until, points))

    async def _metrics_page(self, request: Request) -> Response:
        cards = request.query_params.get("cards", "0")
        if cards not in ("0", "1"):
            raise HTTPException(400, f"cards: {cards!r}, expected 0 or 1")
        page = await asyncio.to_thread(self._metrics.text, cards=cards == "1")
        return Response(page.encode("utf-8", "replace"), headers={"Content-Type": CONTENT_TYPE})


def thinned(
    key: str, block: Block, fields: list[str], since: float, until: float, points: int
) -> Series:
    """Means over equal stretches of time, at most `points` of them; empty ones are left out."""
    width = max((until - since) / points, 1e-9)
    bins = np.clip(((block.time_ns / 1e9 - since) / width).astype(np.int64), 0, points - 1)
    filled = np.unique(bins)
    columns = {}
    for name in fields:
        given = ~np.isnan(block.values[name])
        sums = np.bincount(bins[given], block.values[name][given], points)
        counts = np.bincount(bins[given], minlength=points)
        means = np.divide(sums, counts, out=np.full(points, np.nan), where=counts > 0)
        columns[name] = [None if math.isnan(v) else float(f"{v:.6g}") for v in means[filled]]
    times = [round(since + (number + 0.5) * width, 3) for number in filled.tolist()]
    return Series(key, times, columns)


def _series_tags(card: CardKey) -> dict[str, str]:
    """Tags that stay when a card's rack or its driver's name for it changes."""
    identity = {"site": card.site, "host": card.host, "slot": card.slot, "card": card.card}
    return {name: value for name, value in identity.items() if value}


def _language(request: Request) -> str:
    try:
        return known_language(request.query_params.get("lang", "en"))
    except UnknownLanguage as error:
        raise HTTPException(400, f"lang: {error}") from None


def _columns(request: Request) -> list[str]:
    asked = [name for name in request.query_params.get("columns", "").split(",") if name]
    for name in asked:
        if name not in COLUMNS:
            raise HTTPException(400, f"columns: {name!r} is unknown")
    return asked or list(COLUMNS)


def _number(request: Request, name: str, default: float, low: float, high: float) -> float:
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise HTTPException(400, f"{name}: {text!r}, expected a number from {low:g} to {high:g}")
    return value


def _json(content: Any, status: int = 200) -> Response:
    body = msgspec.json.encode(content)
    return Response(body, status, headers={"Content-Type": "application/json"})
