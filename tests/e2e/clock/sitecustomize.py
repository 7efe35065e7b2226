"""A server's clock, a test's to turn: it is ahead by as many seconds as stand in the file that AHEAD names.

Python imports this by itself, before anything else, in a process that a test starts with this folder in PYTHONPATH.
"""

import datetime
import os
import time
from pathlib import Path

AHEAD = Path(os.environ["AHEAD"])
real_time = time.time


def ahead() -> float:
    return real_time() + float(AHEAD.read_text())


class Datetime(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return cls.fromtimestamp(ahead(), tz)


time.time = ahead
datetime.datetime = Datetime  # type: ignore[misc]
