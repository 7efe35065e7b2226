"""A static web site on an origin of its own, as an app's is."""

from __future__ import annotations

import mimetypes
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Pages:
    """Serves `pages` (path to HTML), and folders under the prefixes of `folders`, until it is closed."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.folders: dict[str, Path] = {}
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content, kind = site.find(self.path.partition("?")[0])
                self.send_response(200 if content is not None else 404)
                self.send_header("Content-Type", kind)
                self.send_header("Cache-Control", "no-store")
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *arguments: Any) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://localhost:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def find(self, path: str) -> tuple[bytes | None, str]:
        if path in self.pages:
            return self.pages[path].encode(), "text/html; charset=utf-8"
        for prefix, folder in self.folders.items():
            file = folder / path.removeprefix(prefix)
            if path.startswith(prefix) and file.is_file():
                return file.read_bytes(), mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        return None, "text/plain"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
