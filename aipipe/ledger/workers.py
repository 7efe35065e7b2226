"""Who is alive on one machine: a worker keeps a lock on a file of its own, which the system lets go when it dies.

Unlike a process id, a lock can't be mistaken for somebody else's, and it needs no heartbeat.
"""

from __future__ import annotations

import fcntl
import os
import socket
import uuid
from collections.abc import Collection
from pathlib import Path


class FileWorker:
    """This process, as other workers of the same ledger see it. Make one after the fork."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder = folder
        self._machine = socket.gethostname()
        self.name = f"{self._machine}/{os.getpid()}-{uuid.uuid4().hex[:12]}"
        # Locked before it has its name, so that nobody can find it unlocked and think it dead.
        unnamed = folder / f".{uuid.uuid4().hex}"
        self._file = unnamed.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unnamed.rename(self._path(self.name))

    def dead(self, names: Collection[str]) -> set[str]:
        return {name for name in names if self.is_dead(name)}

    def is_dead(self, name: str) -> bool:
        """Whether the worker `name` ran on this machine and is gone. Others' are never called dead.

        Whoever left a file here ran here, though a new container has given the machine another name since.
        """
        if name == self.name:
            return False
        try:
            with self._path(name).open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return name.startswith(f"{self._machine}/")
        except OSError:  # locked, or not ours to look at
            return False
        return True

    def bury(self) -> None:
        """Removes the files of this machine's dead workers. Sweep their holds first."""
        for path in self._folder.glob("[!.]*"):
            name = f"{self._machine}/{path.name}"
            if self.is_dead(name):
                self.forget(name)

    def forget(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def close(self) -> None:
        self._file.close()
        self.forget(self.name)

    def _path(self, name: str) -> Path:
        return self._folder / name.rpartition("/")[2]
