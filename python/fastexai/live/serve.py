"""Serve one page, its pictures and its numbers, to this machine only."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from importlib import resources
from socketserver import TCPServer, ThreadingMixIn
from typing import Self

from fastexai.live.newest import Newest
from fastexai.live.watch import State

__all__ = ["Server"]

_HOST = "127.0.0.1"
_BOUNDARY = "picture"
_HEADERS = {
    "Cache-Control": "no-store",
    # No other site may embed, frame or read what the camera sees.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Server(ThreadingMixIn, TCPServer):  # not HTTPServer, which asks the DNS for its own name
    """A server of ``/``, ``/pictures`` (MJPEG) and ``/states`` (server-sent events).

    It listens on 127.0.0.1 alone, and answers only requests that name this address or localhost:
    under another name, a foreign page could read what is here (DNS rebinding). Use it as a context
    manager.

    Parameters
    ----------
    pictures, states : Newest
        What to send, as it comes.
    port : int
        0 takes any that is free.

    Raises
    ------
    ValueError
        If the port is taken, or out of range.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, pictures: Newest[bytes], states: Newest[State], port: int) -> None:
        self.pictures, self.states = pictures, states
        try:
            super().__init__((_HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ValueError(f"port: expected a free port, got {port} ({error})") from error
        number = self.server_address[1]
        self.names = {f"{name}:{number}" for name in (_HOST, "localhost")}
        self.url = f"http://{_HOST}:{number}/"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True)

    def __enter__(self) -> Self:
        """Start to answer."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and free the port."""
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    timeout = 10  # seconds that a browser may take nothing, as one that sleeps does
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        """Let few pictures wait in the connection: the next one shall be a new one."""
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        super().setup()

    def do_GET(self) -> None:
        """Answer with the page, or with pictures or states until someone hangs up."""
        self.close_connection = True
        answers = {"/": self._page, "/pictures": self._pictures, "/states": self._states}
        if self.headers.get("Host") not in self.server.names:
            self.send_error(HTTPStatus.FORBIDDEN, "This page is for this machine only")
        elif self.path not in answers:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            with suppress(ConnectionError, TimeoutError):  # the browser has left
                answers[self.path]()

    def _begin(self, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()

    def _page(self) -> None:
        self._begin("text/html; charset=utf-8")
        package = resources.files("fastexai")
        page = package.joinpath("live", "page.html").read_text(encoding="utf-8")
        palette = package.joinpath("report", "palette.css").read_text(encoding="utf-8")
        self.wfile.write(page.replace("/* palette */", palette).encode())

    def _pictures(self) -> None:
        self._begin(f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        for picture in self.server.pictures:
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}"
            self.wfile.write(f"{head}\r\n\r\n".encode() + picture + b"\r\n")

    def _states(self) -> None:
        self._begin("text/event-stream")
        for state in self.server.states:
            self.wfile.write(f"data: {json.dumps(state.describe())}\n\n".encode())

    def version_string(self) -> str:
        """Name no software."""
        return "fastexai"

    def log_message(self, *_: object) -> None:
        """Keep quiet: nothing is stored, requests neither."""
