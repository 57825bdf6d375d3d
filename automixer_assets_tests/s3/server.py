"""An S3 server (moto) on this machine that records what it is asked, and fails where a test wants it to."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

REGION = "us-east-1"
Fault = Callable[["Request"], "Answer | None"]


@dataclass(frozen=True)
class Request:
    """What was asked: HTTP method, path with the bucket, the names in the query, and the bytes of a ranged read."""

    method: str
    path: str
    query: frozenset[str]
    range: tuple[int, int] | None = None

    @property
    def lists(self) -> bool:
        return self.method == "GET" and bool(self.query & {"list-type", "prefix", "delimiter"})


@dataclass(frozen=True)
class Answer:
    """An answer in place of the server's: `cut` ends a true answer after so many bytes.

    With `done`, the store does what was asked before this answer is given.
    """

    status: str = ""
    body: bytes = b""
    cut: int | None = None
    done: bool = False


@dataclass
class S3Server:
    """Records requests in `requests`; each of `faults` may answer in place of the store."""

    application: Any
    endpoint: str = ""
    requests: list[Request] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def __call__(self, environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        names = frozenset(parse_qs(environment.get("QUERY_STRING", ""), keep_blank_values=True))
        asked = _range(environment.get("HTTP_RANGE", ""))
        request = Request(environment["REQUEST_METHOD"], environment["PATH_INFO"], names, asked)
        self.requests.append(request)
        for fault in self.faults:
            answer = fault(request)
            if answer is not None and answer.cut is None:
                if answer.done:
                    b"".join(self.application(environment, lambda *said: lambda data: None))
                else:
                    environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
                start(answer.status, [("Content-Type", "application/xml"), ("Content-Length", str(len(answer.body)))])
                return [answer.body]
            if answer is not None:
                return self._cut(environment, start, answer.cut or 0)
        return self.application(environment, start)

    def _cut(self, environment: dict[str, Any], start: Callable[..., Any], length: int) -> Iterable[bytes]:
        """The first bytes of the true answer under its true Content-Length; then the connection closes."""
        whole = b"".join(self.application(environment, start))
        return [whole[:length]]

    @property
    def options(self) -> dict[str, Any]:
        return {"endpoint_url": self.endpoint}


def _range(header: str) -> tuple[int, int] | None:
    """First byte and the one after the last of `bytes=FIRST-LAST`."""
    first, separator, last = header.removeprefix("bytes=").partition("-")
    return (int(first), int(last) + 1) if separator and first and last else None


def xml_error(status: str, code: str) -> Answer:
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}, said the test</Message></Error>'
    return Answer(status, body.encode())


def first(count: int, fault: Fault) -> Fault:
    """The fault, on the first `count` requests that it is meant for."""
    left = [count]

    def limited(request: Request) -> Answer | None:
        answer = fault(request) if left[0] else None
        left[0] -= answer is not None
        return answer

    return limited


@contextmanager
def serving() -> Iterator[S3Server]:
    """A server on a free port, in threads of this process."""
    moto = importlib.import_module("moto.moto_server.werkzeug_app")
    wsgi = importlib.import_module("werkzeug.serving")

    class Handler(wsgi.WSGIRequestHandler):
        def log(self, type: str, message: str, *args: Any) -> None: ...

    server = S3Server(moto.DomainDispatcherApplication(moto.create_backend_app))
    listening = wsgi.make_server("127.0.0.1", 0, server, threaded=True, request_handler=Handler)
    server.endpoint = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
