"""A page on this machine that follows a running study: it tells the browser when the study has gone on.

The server listens on 127.0.0.1 alone and answers two addresses: `/`, the page, and `/events`, server-sent events with the
progress. It reads no file. Requests whose Host header names another machine are refused: a page of another site that has its
own name point to 127.0.0.1 (DNS rebinding) can read nothing.

>>> page = LivePage("mine")
>>> page.show("<p>one</p>", "1 trial done")
>>> "<p>one</p>" in page.html, "EventSource" in page.html
(True, True)
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from markupsafe import escape

from adapterlab.errors import AdapterlabError

ADDRESS = "127.0.0.1"
HEARTBEAT = 10.0
"""Seconds between two lines of an event stream in which nothing happens, so that a closed browser is noticed."""
SCRIPT = Path(__file__).with_name("live.html").read_text("utf-8")
"""Bar and script that are added to the page; `"%STATE%"` stands for the state that the page shows."""


@dataclass(frozen=True)
class State:
    """State of the study, as the browser is told."""

    version: str = ""
    """Hash of the page; the browser loads the page again if it differs."""
    progress: str = ""
    """Progress in a line."""
    finished: bool = False

    @property
    def json(self) -> str:
        """The state as JSON in one line, safe inside a script."""
        return json.dumps(vars(self)).replace("<", "\\u003c")


class LivePage:
    """The page that is shown at present, which one thread changes and others send.

    Args:
        title: Title of the page as long as there is no report.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._body, self._state = "", State()
        self._changed = threading.Condition()
        self._closed = False

    def show(self, report: str, progress: str, *, finished: bool = False) -> None:
        """Show a report.

        Args:
            report: The report as HTML.
            progress: Progress of the study in a line.
            finished: True if the study is.
        """
        version = hashlib.blake2b(report.encode(), digest_size=8).hexdigest()
        with self._changed:
            self._body, self._state = report, State(version, progress, finished)
            self._changed.notify_all()

    def show_progress(self, text: str, progress: str) -> None:
        """Show the progress of a study that has too few results for a report.

        Args:
            text: The progress at length, in columns of text.
            progress: The progress in a line.
        """
        title = escape(self._title)
        self.show(
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title} - adapterlab</title>\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            "<style>:root { color-scheme: light dark; } body { font: 15px/1.5 system-ui, sans-serif; margin: 24px; }\n"
            "pre { font: 13px/1.5 ui-monospace, Menlo, Consolas, monospace; overflow-x: auto; }</style></head>\n"
            f"<body><main><h1>{title}</h1><p>Too few contests are finished for a report yet. It appears here as soon as "
            f'there are enough.</p><pre tabindex="0">{escape(text)}</pre></main></body></html>\n',
            progress,
        )

    @property
    def html(self) -> str:
        """The page with the bar and the script that keep it up to date."""
        with self._changed:
            body, state = self._body, self._state
        live = SCRIPT.replace('"%STATE%"', state.json)
        head, end, tail = body.rpartition("</body>")
        return head + live + end + tail if end else body + live

    def states(self) -> Iterator[State | None]:
        """Yield the state now and whenever it changes, and None where nothing happened for a while; ends with `close`."""
        last: State | None = None
        while True:
            with self._changed:
                if self._state == last and not self._closed:
                    self._changed.wait(HEARTBEAT)
                if self._closed:
                    return
                state = self._state
            yield None if state == last else state
            last = state

    def close(self) -> None:
        """End all streams of states."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


@contextmanager
def serving(page: LivePage, port: int = 0) -> Iterator[str]:
    """Serve a page on this machine within a `with` block.

    Args:
        page: The page.
        port: Port; a free one if 0.

    Yields:
        The address of the page.

    Raises:
        AdapterlabError: If the port cannot be used.
    """
    try:
        server = _Server((ADDRESS, port), _handler(page))
    except (OSError, OverflowError) as error:
        raise AdapterlabError(
            f"port {port} cannot be used ({getattr(error, 'strerror', None) or error}): give another --port, or 0 for a "
            "free one"
        ) from error
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield f"http://{ADDRESS}:{server.server_port}/"
    finally:
        page.close()
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    server_port: int
    daemon_threads = True
    block_on_close = False  # a browser that keeps its connection open does not keep the program

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that went away."""


def _handler(page: LivePage) -> type[BaseHTTPRequestHandler]:
    """Return the class that answers requests for a page."""

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "adapterlab", ""
        timeout = 60.0

        def do_GET(self) -> None:
            if not self._named_here():
                self._answer(HTTPStatus.FORBIDDEN, "this address serves 127.0.0.1 and localhost alone\n")
            elif self.path == "/":
                self._answer(HTTPStatus.OK, page.html, "text/html")
            elif self.path == "/events":
                self._stream()
            else:
                self._answer(HTTPStatus.NOT_FOUND, "there is one page here: /\n")

        def _refuse(self) -> None:
            here = self._named_here()
            status = HTTPStatus.METHOD_NOT_ALLOWED if here else HTTPStatus.FORBIDDEN
            self._answer(status, "only GET is answered here\n", more={"Allow": "GET"})

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):  # every method but GET
                return self._refuse
            raise AttributeError(name)

        def _named_here(self) -> bool:
            port = cast(_Server, self.server).server_port
            names = self.headers.get_all("Host") or []
            return len(names) == 1 and names[0].lower() in {f"{ADDRESS}:{port}", f"localhost:{port}"}

        def _answer(
            self, status: HTTPStatus, text: str, kind: str = "text/plain", more: dict[str, str] | None = None
        ) -> None:
            content = text.encode()
            self._head(status, kind, {"Content-Length": str(len(content)), **(more or {})})
            if self.command != "HEAD":
                self.wfile.write(content)

        def _head(self, status: HTTPStatus, kind: str, more: dict[str, str]) -> None:
            self.send_response(status)
            always = {
                "Content-Type": f"{kind}; charset=utf-8",
                "Cache-Control": "no-store",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
                "X-Frame-Options": "DENY",
            }
            for name, text in {**always, **more}.items():
                self.send_header(name, text)
            self.end_headers()

        def _stream(self) -> None:
            self._head(HTTPStatus.OK, "text/event-stream", {})
            for state in page.states():
                self.wfile.write(b": \n\n" if state is None else f"data: {state.json}\n\n".encode())
                self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Write no line for each request."""

    return Handler
