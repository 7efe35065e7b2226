"""A way to PostgreSQL that breaks where a test wants it to."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from psycopg.conninfo import conninfo_to_dict


class Wire:
    """A port of this machine, behind which there is the database's server. Ends with the `with` block.

    `cuts` is what to do at the next COMMIT: the connection ends "before" it arrives, or "after" it was carried out but
    not told of; or goes "dark": then the server's end stays open until `close`.
    """

    def __init__(self, url: str) -> None:
        given = conninfo_to_dict(url)
        self._server = (given["host"], int(given.get("port") or 5432))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"postgresql://{given['user']}@127.0.0.1:{self._listener.getsockname()[1]}/{given['dbname']}"
        self.cuts = ""
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.close()
        for thread in self._threads:
            thread.join()
        for one in self._open:
            one.close()

    def close(self) -> None:
        """Ends all connections."""
        for one in self._open:
            end(one)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._open += [client, server]
                for work in (self._ask, self._answer):
                    self._threads.append(threading.Thread(target=work, args=(client, server)))
                    self._threads[-1].start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while said := client.recv(65_536):
                cut, self.cuts = (self.cuts, "") if b"COMMIT\0" in said else ("", self.cuts)
                if cut in ("before", "dark"):
                    end(client)
                    if cut == "before":
                        end(server)
                    return
                if cut == "after":
                    client.shutdown(socket.SHUT_WR)  # what `_answer` would tell goes nowhere
                server.sendall(said)
        end(server)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while said := server.recv(65_536):
                client.sendall(said)
        end(client)


def end(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
