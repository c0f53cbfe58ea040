"""A small HTTP server that answers as a test's script says, and a tenant that points at it.

Belongs here: what several tests of the NetSuite client need. Does not belong here: NetSuite's behaviour as a whole;
the simulator has that.
"""

import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from nsimport_pipeline.netsuite.client import NetSuiteClient
from nsimport_pipeline.netsuite.retrying import RetryEvent, RetryPolicy
from nsimport_pipeline.record_types.criteria import RecordType, parse_criteria
from nsimport_pipeline.settings import Tenant

TBA = {
    "method": "tba",
    "consumer_key": "consumer-key-7f3a",
    "consumer_secret": "consumer-secret-91bc",
    "token_id": "token-id-55de",
    "token_secret": "token-secret-02aa",
}
SECRETS = [value for key, value in TBA.items() if key != "method"]


@dataclass
class Answer:
    """What the server does with one request."""

    status: int = 200
    body: bytes | str | dict[str, Any] | list[Any] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before anything is sent."""
    cut: int | None = None
    """Send this many bytes of the body that ``Content-Length`` announces, then close."""
    reset: bool = False
    """Close without a word."""
    chunks: Sequence[bytes] = ()
    """Send these as a chunked body instead, ``pause`` seconds apart."""
    pause: float = 0.0


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def statement(self) -> str:
        return str(json.loads(self.body)["q"])

    @property
    def form(self) -> dict[str, str]:
        return {key: values[0] for key, values in parse_qs(self.body.decode()).items()}


class ScriptedServer:
    """Answers queries from ``script`` in order (the last one again and again), and tokens from ``tokens``."""

    def __init__(self, script: Sequence[Answer], tokens: Sequence[Answer], certificate: Path | None = None) -> None:
        self.script, self.tokens = list(script), list(tokens)
        self.queries: list[Received] = []
        self.token_requests: list[Received] = []
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                received = Received(self.path, dict(self.headers.items()), body, id(self.connection))
                self._send(server._next(received))

            def _send(self, answer: Answer) -> None:
                time.sleep(answer.delay)
                self.close_connection = answer.reset or answer.cut is not None
                if answer.reset:
                    return
                body = answer.body if isinstance(answer.body, bytes | str) else json.dumps(answer.body)
                content = body.encode() if isinstance(body, str) else body
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if answer.chunks:
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    for chunk in answer.chunks:
                        self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                        self.wfile.flush()
                        time.sleep(answer.pause)
                    if answer.cut is None:
                        self.wfile.write(b"0\r\n\r\n")
                    return
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: answer.cut])

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: Any) -> None:
                pass  # clients of these tests hang up on purpose

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self._server.server_address[1]}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def _next(self, received: Received) -> Answer:
        with self._lock:
            asks_token = received.path.endswith("/token")
            log, answers = (self.token_requests, self.tokens) if asks_token else (self.queries, self.script)
            log.append(received)
            return answers[min(len(log), len(answers)) - 1]

    @property
    def authorizations(self) -> list[str]:
        return [query.headers["Authorization"] for query in self.queries]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def scripted(
    *script: Answer, tokens: Sequence[Answer] = (), certificate: Path | None = None
) -> Iterator[ScriptedServer]:
    server = ScriptedServer(script, tokens, certificate)
    try:
        yield server
    finally:
        server.close()


@dataclass
class Clock:
    """A clock that only moves when it is told to, or slept on."""

    now: float = 1_700_000_000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class Listener:
    events: list[RetryEvent] = field(default_factory=list)

    def on_retry(self, event: RetryEvent) -> None:
        self.events.append(event)


def client(server: ScriptedServer | str, auth: Mapping[str, Any] = TBA, **options: Any) -> NetSuiteClient:
    """A client for ``server`` that sleeps on a fake clock unless told otherwise."""
    clock = options.pop("clock", None) or Clock()
    url = server if isinstance(server, str) else server.url
    made: dict[str, Any] = {"clock": clock, "sleep": getattr(clock, "sleep", None), "policy": RetryPolicy(), **options}
    return NetSuiteClient(tenant(url, auth), **made)


def tenant(url: str, auth: Mapping[str, Any] = TBA, account: str = "1234567_SB1") -> Tenant:
    document = {"name": "acme", "account": account, "base_url": url, "auth": dict(auth), "warehouse_url": "sqlite://"}
    return Tenant.model_validate(document)


def page(items: Sequence[Mapping[str, Any]], total: int | None = None, offset: int = 0) -> Answer:
    """A good answer as NetSuite gives it, ``links`` and all."""
    total = len(items) if total is None else total
    return Answer(
        body={
            "links": [{"rel": "self", "href": "https://example.invalid"}],
            "count": len(items),
            "hasMore": offset + len(items) < total,
            "items": [{"links": [], **item} for item in items],
            "offset": offset,
            "totalResults": total,
        }
    )


def error_body(status: int, code: str, detail: str, title: str = "Bad Request") -> dict[str, Any]:
    """NetSuite's REST error envelope."""
    return {
        "type": "https://www.rfc-editor.org/rfc/rfc9110.html#section-15.5.1",
        "title": title,
        "status": status,
        "o:errorDetails": [{"detail": detail, "o:errorQueryParam": "q", "o:errorCode": code}],
    }


CONCURRENCY = {
    "type": "https://www.w3.org/Protocols/rfc2616/rfc2616-sec10.html",
    "title": "Bad Request",
    "status": 429,
    "o:errorCode": "USER_ERROR",
    "o:errorDetails": [
        {"detail": "Concurrent request limit exceeded. Request blocked.", "o:errorCode": "CONCURRENCY_LIMIT_EXCEEDED"}
    ],
}
RESTLET_CONCURRENCY = {"error": {"code": "SSS_REQUEST_LIMIT_EXCEEDED", "message": "Request Limit Exceeded"}}
UNEXPECTED = error_body(
    500,
    "UNEXPECTED_ERROR",
    "An unexpected error occurred. Error ID: jrgbpyylphhishmmlxyt",
    "Internal Server Error",
)
INVALID_LOGIN = error_body(
    401,
    "INVALID_LOGIN",
    "Invalid login attempt. For more details, see the Login Audit Trail in the NetSuite UI at Setup > Users/Roles > "
    "User Management > View Login Audit Trail.",
    "Unauthorized",
)


def token_answer(token: str = "token-1", lifetime: Any = 3600) -> Answer:  # noqa: S107 - made up
    return Answer(body={"access_token": token, "expires_in": lifetime, "token_type": "Bearer"})


def write_key(directory: Path, algorithm: str = "ES256") -> Path:
    """A new private key in a PEM file."""
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    key = ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else rsa.generate_private_key(65537, 2048)
    file = directory / f"{algorithm}.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return file


def write_certificate(directory: Path) -> Path:
    """A certificate for 127.0.0.1 that signed itself, with its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = builder.add_extension(address, critical=False).sign(key, SHA256())
    file = directory / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return file


def oauth2(key_file: Path, algorithm: str = "ES256") -> dict[str, Any]:
    return {
        "method": "oauth2",
        "client_id": "client-id-4c1f",
        "certificate_id": "certificate-id-88ab",
        "private_key_file": str(key_file),
        "algorithm": algorithm,
    }


def record_type(**changes: Any) -> RecordType:
    document: dict[str, Any] = {
        "record_type": "customer",
        "family": "entities",
        "table": "customers",
        "description": "Customers",
        "source": {"from": "customer", "last_modified": "lastmodifieddate"},
        "fields": [
            {"name": "email", "type": "string"},
            {"name": "since", "source": "startDate", "type": "date"},
            {"name": "created_at", "source": "datecreated", "type": "datetime"},
            {"name": "status", "source": "entitystatus", "type": "string", "display": True},
            {"name": "currency_id", "source": "currency", "type": "reference", "display": True},
            {"name": "full_name", "type": "string", "expression": "t.firstname || ' ' || t.lastname"},
        ],
    }
    return parse_criteria({**document, **changes}, "test")
