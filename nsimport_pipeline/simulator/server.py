"""The simulated account over HTTP: NetSuite's addresses, and a few of its own under ``/simulator``.

Belongs here: what happens to a request from arrival to answer. Does not belong here: any rule that can be said without
HTTP (``paging``, ``auth``, ``faults``, ``traffic``, ``suiteql_engine``).
"""

import asyncio
import contextlib
import os
import random
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import duckdb
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.record_types.criteria import load_catalog
from nsimport_pipeline.settings import Environment
from nsimport_pipeline.simulator import responses
from nsimport_pipeline.simulator.accounts import AccountView
from nsimport_pipeline.simulator.auth import TOKEN_PATH, Authenticator, TokenRefusedError, UnauthorizedError
from nsimport_pipeline.simulator.clock import AccountClock, parse_moment
from nsimport_pipeline.simulator.credentials import ensure_credentials, write_tenants_file
from nsimport_pipeline.simulator.dataset import Dataset
from nsimport_pipeline.simulator.faults import Faults, RequestFault, parse_faults
from nsimport_pipeline.simulator.metadata import find_record, metadata_names, schema
from nsimport_pipeline.simulator.options import SimulatorOptions
from nsimport_pipeline.simulator.paging import PagingError, envelope, parse_page
from nsimport_pipeline.simulator.suiteql_engine import Engine
from nsimport_pipeline.simulator.suiteql_text import ColumnFailureError, SuiteQLError
from nsimport_pipeline.simulator.traffic import Traffic

HOST = "127.0.0.1"
SUITEQL = "/services/rest/query/v1/suiteql"
METADATA = "/services/rest/record/v1/metadata-catalog"
GOVERNANCE = "/services/rest/system/v1/governanceLimits"
MAX_COLUMNS = 100
_COLLECTION = "application/vnd.oracle.resource+json; type=collection; charset=UTF-8"


@dataclass(frozen=True)
class ServerInfo:
    """What a caller wants to know once the simulator answers."""

    base_url: str
    port: int
    tenants_file: Path
    tables: dict[str, int]


_TRANSPORT = "simulator.transport"


def _with_date(application: ASGIApp, clock: Callable[[], float]) -> ASGIApp:
    """Has every answer say what time it is at the account."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"date", formatdate(clock(), usegmt=True).encode())]
            await send(message)

        await application(scope, receive, dated)

    return call


def _with_transport(application: ASGIApp) -> ASGIApp:
    """Lets answers reach their connection, which ASGI hides: a reset cannot be said in its messages."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[_TRANSPORT] = send.__self__.transport  # type: ignore[attr-defined]
        await application(scope, receive, send)

    return call


class _Broken(Response):
    """An answer whose connection ends in the middle of its body, or before it."""

    def __init__(self, part: bytes | None, length: int) -> None:
        super().__init__(b"", 200)
        self._part, self._length = part, length

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._part is not None:
            headers = [(b"content-type", _COLLECTION.encode()), (b"content-length", str(self._length).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": self._part, "more_body": True})
            await asyncio.sleep(0.05)
        transport = scope[_TRANSPORT]
        peer = transport.get_extra_info("socket")
        if peer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        await asyncio.sleep(0.01)


class Simulator:
    """One simulated account. ``clock`` is monotonic, in seconds."""

    def __init__(self, options: SimulatorOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self.options = options
        self._clock = clock
        plan = parse_faults(options.faults)
        self.credentials = ensure_credentials(options.credentials)
        catalog = load_catalog(options.criteria_path or Environment().criteria_path)
        self._check_rows(set(catalog))
        self._record_types = {name: r.source for name, r in catalog.items()}
        self.dataset = Dataset(catalog, options)
        self.engine = Engine(self.dataset, AccountView(self.dataset.tables, plan.variant))
        self.account_clock = AccountClock()
        lifetime = plan.token_lifetime or options.token_lifetime
        self.auth = Authenticator(self.credentials, options.account, lifetime, self.account_clock)
        self.traffic = Traffic(options.slots, clock)
        self.faults = Faults(plan, options.seed, clock)
        self._random = random.Random(options.seed)  # noqa: S311 - repeatable on purpose
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="suiteql")
        self._noise: list[asyncio.Task[None]] = []

    def _check_rows(self, known: set[str]) -> None:
        for name in self.options.rows:
            if name not in known | {"*", "deletedrecord"}:
                raise ConfigurationError(f"--rows: unknown record type {name!r}")

    def application(self) -> Starlette:
        routes = [
            Route(SUITEQL, self._suiteql, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
            Route(TOKEN_PATH, self._token, methods=["POST"]),
            Route(METADATA + "/{name}", self._metadata),
            Route(METADATA, self._metadata_list),
            Route(GOVERNANCE, self._governance),
            Route("/simulator/health", self._health),
            Route("/simulator/stats", self._stats),
            Route("/simulator/reset-stats", self._reset_stats, methods=["POST"]),
            Route("/simulator/faults", self._set_faults, methods=["POST"]),
            Route("/simulator/clock", self._set_clock, methods=["POST"]),
            Route("/simulator/tables", self._tables),
            Route("/simulator/sql", self._sql, methods=["POST"]),
            Route("/simulator/delete", self._delete, methods=["POST"]),
            Route("/simulator/revoke-tokens", self._revoke, methods=["POST"]),
        ]
        return Starlette(routes=routes, lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self._restart_noise()
        yield
        for task in self._noise:
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    # NetSuite's own addresses

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
        outage = self.faults.outage()
        if outage:
            self.traffic.note("token", int(outage) if outage.isdigit() else 0)
            return self._failing(outage)
        try:
            body = self.auth.issue_token(form, _address(request))
        except TokenRefusedError as refused:
            self.traffic.note("token", 400)
            return responses.json_response({"error": refused.code}, 400)
        self.traffic.note("token", 200)
        return responses.json_response(body)

    async def _suiteql(self, request: Request) -> Response:
        body = await request.body()
        if request.method != "POST":
            return responses.error(405, "Method not allowed. Use POST.", "METHOD_NOT_ALLOWED")

        async def work() -> Response:
            return await self._answer(request, body, fault)

        fault = None
        refusal = self._refusal(request, "suiteql")
        if refusal is not None:
            return refusal
        fault = self.faults.strike()
        if fault and fault.kind == "429":
            self.traffic.note("suiteql", 429)
            return responses.concurrency_exceeded(fault.value)
        return await self._serve(request, "suiteql", work, fault)

    async def _metadata(self, request: Request) -> Response:
        async def work() -> Response:
            found = find_record(self.dataset.tables, request.path_params["name"])
            if found is None or found[0].name in self.engine.view.variant.missing:
                return responses.error(404, "Record type does not exist.", "NONEXISTENT_ID")
            body = schema(*found, _address(request), metadata_names(self.dataset.tables))
            return responses.json_response(body, kind="application/schema+json; charset=UTF-8")

        return self._refusal(request, "metadata") or await self._serve(request, "metadata", work)

    async def _metadata_list(self, request: Request) -> Response:
        async def work() -> Response:
            names = sorted(set(metadata_names(self.dataset.tables).values()))
            items = [{"name": n, "links": [{"rel": "canonical", "href": f"{_address(request)}/{n}"}]} for n in names]
            return responses.json_response({"items": items})

        return self._refusal(request, "metadata") or await self._serve(request, "metadata", work)

    async def _governance(self, request: Request) -> Response:
        async def work() -> Response:
            slots = self.options.slots
            return responses.json_response(
                {
                    "accountConcurrencyLimit": slots,
                    "accountUnallocatedConcurrencyLimit": slots,
                    "integrationLimitType": "accountLimit",
                }
            )

        return self._refusal(request, "governance") or await self._serve(request, "governance", work)

    def _refusal(self, request: Request, kind: str) -> Response | None:
        """Whoever may not enter: outage, then login."""
        outage = self.faults.outage()
        if outage:
            self.traffic.note(kind, int(outage) if outage.isdigit() else 0)
            return self._failing(outage)
        try:
            authorization = request.headers.get("authorization")
            self.auth.authorize(request.method, _address(request), request.url.query, authorization)
        except UnauthorizedError:
            self.traffic.note(kind, 401)
            return responses.invalid_login()
        return None

    async def _serve(
        self, request: Request, kind: str, work: Callable[[], Awaitable[Response]], fault: RequestFault | None = None
    ) -> Response:
        """Do ``work`` while holding a slot for the whole service time; give it back just before the answer leaves."""
        ticket = self.traffic.enter(kind)
        if ticket is None:
            return responses.concurrency_exceeded()
        status = 0
        try:
            latency, in_flight = self._latency(), self.traffic.in_flight
            response = await work()
            cells = getattr(request.state, "cells", 0)
            until = ticket.started + self.faults.plan.service_seconds(latency, cells, in_flight)
            if fault is not None and fault.kind in ("slow", "timeout"):
                until += fault.value or 0
            # asyncio's own clock may end a sleep a little early, and an instant too little is no harm
            await asyncio.sleep(max(0.0, until - self._clock()))
            status = 0 if isinstance(response, _Broken) else response.status_code
        finally:
            self.traffic.leave(ticket, status, abandoned=request.scope[_TRANSPORT].is_closing())
        return response

    def _latency(self) -> float:
        return self.options.latency * self._random.uniform(1 - self.options.jitter, 1 + self.options.jitter)

    async def _answer(self, request: Request, body: bytes, fault: RequestFault | None) -> Response:
        kind = fault.kind if fault else ""
        if kind == "timeout":
            return _Broken(None, 0)
        if kind in ("401", "403", "500", "502", "503"):
            return self._failing(kind)
        prefer = request.headers.get("prefer", "")
        if "transient" not in [word.strip().lower() for word in prefer.split(",")]:
            detail = "Invalid value for the Prefer header. The header is required and must be 'transient'."
            return responses.error(400, detail, "INVALID_HEADER", header="Prefer")
        switches = self.faults.plan.switches
        try:
            page = parse_page(request.url.query, refuse_past_cap="cap400" in switches)
            document = orjson.loads(body)
            statement = document["q"]
            parameters = document.get("params", [])
            if not isinstance(statement, str) or not isinstance(parameters, list):
                raise TypeError
        except PagingError as error:
            return responses.error(400, error.detail, "INVALID_PARAMETER", query_param=error.parameter)
        except (ValueError, KeyError, TypeError, AttributeError):
            return responses.error(400, "Invalid request body. It must be JSON with a text 'q'.", "INVALID_CONTENT")
        loop = asyncio.get_running_loop()

        def run() -> bytes:
            fetched = page.wanted
            columns = self.engine.columns(statement, parameters)
            if columns > MAX_COLUMNS and "wide" not in switches:
                fetched = 0
            if "needasc" in switches and self.engine.lacks_direction(statement, parameters):
                return orjson.dumps(envelope(_address(request), page, [], 0))
            result = self.engine.page(statement, fetched, page.offset, parameters)
            request.state.cells = len(result.items) * columns
            document = envelope(_address(request), page, result.items, result.total)
            if fetched == 0:
                document["hasMore"] = False
            return orjson.dumps(_spoiled(document, fault) if fault else document)

        try:
            content = await loop.run_in_executor(self._threads, run)
        except SuiteQLError as error:
            return responses.invalid_query(error.detail)
        except ColumnFailureError:
            return responses.unexpected(self._random)
        except duckdb.Error:
            return responses.unexpected(self._random)
        if kind == "empty":
            content = b""
        elif kind == "truncated":
            content = content[: max(1, len(content) * 2 // 3)]
        elif kind == "reset":
            return _Broken(content[: len(content) // 2], len(content))
        return Response(content, 200, media_type=_COLLECTION)

    def _failing(self, kind: str) -> Response:
        match kind:
            case "401":
                return responses.invalid_login()
            case "403":
                return responses.forbidden()
            case "500":
                return responses.unexpected(self._random)
            case "reset":
                return _Broken(None, 0)
            case _:
                return responses.unavailable(int(kind))

    # Its own addresses, for tests and the demo

    async def _health(self, _request: Request) -> Response:
        return responses.json_response({"status": "ok", "account": self.options.account, "pid": os.getpid()})

    async def _stats(self, request: Request) -> Response:
        statistics = self.traffic.statistics()
        if request.query_params.get("log") == "0":
            del statistics["log"]
        return responses.json_response(statistics)

    async def _reset_stats(self, _request: Request) -> Response:
        self.traffic.reset()
        return responses.json_response({"status": "ok"})

    async def _set_faults(self, request: Request) -> Response:
        spec = (await request.body()).decode()
        if spec.lstrip().startswith("{"):
            spec = str(orjson.loads(spec).get("spec", ""))
        try:
            plan = parse_faults(spec)
        except ConfigurationError as error:
            return responses.json_response({"error": str(error)}, 400)
        self.faults = Faults(plan, self.options.seed, self._clock)
        self.engine.view = AccountView(self.dataset.tables, plan.variant)
        self.auth.token_lifetime = plan.token_lifetime or self.options.token_lifetime
        self._restart_noise()
        return responses.json_response({"status": "ok", "faults": spec})

    async def _set_clock(self, request: Request) -> Response:
        try:
            moment = parse_moment(orjson.loads(await request.body() or b"{}").get("now"))
        except (ConfigurationError, ValueError) as error:
            return responses.json_response({"error": str(error)}, 400)
        self.account_clock.set(moment)
        await asyncio.to_thread(self.dataset.set_moment, moment)
        return responses.json_response({"status": "ok", "now": datetime.fromtimestamp(self.account_clock(), UTC)})

    async def _revoke(self, _request: Request) -> Response:
        self.auth.revoke_tokens()
        return responses.json_response({"status": "ok"})

    async def _tables(self, _request: Request) -> Response:
        return responses.json_response(await asyncio.to_thread(self.table_counts))

    def table_counts(self) -> dict[str, dict[str, int]]:
        """Rows now, by table and by record type, whatever faults are set."""
        engine = Engine(self.dataset, AccountView(self.dataset.tables))
        record_types = {}
        for name, source in self._record_types.items():
            where = f" WHERE {source.where}" if source.where else ""
            statement = f"SELECT COUNT(*) AS n FROM {source.from_} t{where}"
            record_types[name] = int(engine.page(statement, 1, 0).items[0]["n"])
        return {"tables": self.dataset.counts(), "record_types": record_types}

    async def _sql(self, request: Request) -> Response:
        document = orjson.loads(await request.body())
        statements = document["sql"] if isinstance(document["sql"], list) else [document["sql"]]
        try:
            changed = [await asyncio.to_thread(self.dataset.change, s, document.get("params")) for s in statements]
        except duckdb.Error as error:
            return responses.json_response({"error": str(error)}, 400)
        return responses.json_response({"changed": changed if isinstance(document["sql"], list) else changed[0]})

    async def _delete(self, request: Request) -> Response:
        document = orjson.loads(await request.body())
        try:
            deleted = await asyncio.to_thread(self.dataset.delete, document["table"], document["where"])
        except (duckdb.Error, KeyError) as error:
            return responses.json_response({"error": str(error)}, 400)
        return responses.json_response({"deleted": deleted})

    def _restart_noise(self) -> None:
        for task in self._noise:
            task.cancel()
        self._noise = [asyncio.ensure_future(self._make_noise(i)) for i in range(self.faults.plan.noise)]

    async def _make_noise(self, number: int) -> None:
        """Another integration of the account: takes a slot for a while, then leaves it alone for a while."""
        rng = random.Random(f"{self.options.seed}.{number}")  # noqa: S311 - repeatable on purpose
        mean = max(self.options.latency, 0.2)
        while True:
            if self.traffic.take_noise():
                try:
                    await asyncio.sleep(mean * rng.uniform(0.5, 2))
                finally:
                    self.traffic.give_noise()
            await asyncio.sleep(mean * rng.uniform(0.1, 1))


def _spoiled(document: dict[str, Any], fault: RequestFault) -> dict[str, Any]:
    """An answer that looks right and is not."""
    amount = int(fault.value or 1)
    items = document["items"]
    if fault.kind == "short" and items:
        document["items"] = items[:-amount]
        document |= {"count": len(document["items"]), "hasMore": False}
    elif fault.kind == "duplicate" and items:
        document["items"] = items + items[-amount:]
        document["count"] = len(document["items"])
    elif fault.kind == "wrongtotal":
        document["totalResults"] = max(0, document["totalResults"] + amount)
    return document


def _address(request: Request) -> str:
    """The address that the client called, without a query string."""
    return f"{request.url.scheme}://{request.headers.get('host', '')}{request.url.path}"


def listen(port: int) -> socket.socket:
    """A listening socket on loopback. Raises ConfigurationError if the port is taken."""
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((HOST, port))
        server.listen(256)
    except OSError as error:
        server.close()
        raise ConfigurationError(f"port {port} on {HOST} cannot be used: {error.strerror}; choose another") from None
    return server


def prepare(options: SimulatorOptions, port: int) -> tuple[Simulator, ServerInfo]:
    """A simulator with its data and its tenants file, for a server on ``port``."""
    simulator = Simulator(options)
    base_url = f"http://{HOST}:{port}"
    file = write_tenants_file(simulator.credentials, options, base_url)
    return simulator, ServerInfo(base_url, port, file, simulator.dataset.counts())


def configure(simulator: Simulator) -> uvicorn.Config:
    return uvicorn.Config(
        _with_transport(_with_date(simulator.application(), simulator.account_clock)),
        proxy_headers=False,
        date_header=False,
        log_level="critical",
        access_log=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
        lifespan="on",
    )


class _Server(uvicorn.Server):
    """Ends on a signal without handing it on, so that what it leaves behind can be cleared away."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        self.should_exit = True


def serve(options: SimulatorOptions, on_ready: Callable[[ServerInfo], None] | None = None) -> None:
    """Run a simulator until the process is asked to end (SIGINT, SIGTERM). Blocks; prints nothing.

    ``on_ready`` is called once it answers. Raises ConfigurationError for wrong options or a port in use.
    """
    listener = listen(options.port)
    try:
        simulator, info = prepare(options, listener.getsockname()[1])
        server = _Server(configure(simulator))

        async def run() -> None:
            for ending in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(ending, server.stop)
            serving = asyncio.ensure_future(server.serve(sockets=[listener]))
            while not server.started and not serving.done():
                await asyncio.sleep(0.01)
            if on_ready is not None and server.started:
                on_ready(info)
            await serving

        try:
            asyncio.run(run())
        finally:
            simulator.dataset.close()
    finally:
        listener.close()
