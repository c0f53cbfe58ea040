"""Waiting on behalf of an import, for as long as it is wanted.

Belongs here: breaking a wait off once its import is cancelled. Does not belong here: how long to wait, or what becomes
of the batch whose wait was broken off (``batch.py``).
"""

import contextlib
import time
from collections.abc import Callable

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from nsimport_pipeline.imports import store
from nsimport_pipeline.warehouse.engine import read_only

LOOK_SECONDS = 1.0
"""How often one who waits looks whether its import is still wanted."""


class Interrupted(Exception):
    """The run is being stopped, or its import was cancelled: give the batch back untouched."""


def while_wanted(
    engine: Engine, import_id: str, sleep: Callable[[float], None], timer: Callable[[], float] = time.monotonic
) -> Callable[[float], None]:
    """``sleep`` (seconds) that raises Interrupted once batches of this import may not be started any more.

    It looks before, after and while it waits. A database that is gone for a moment ends no wait.
    """

    def wait(seconds: float) -> None:
        until = timer() + seconds
        while True:
            with contextlib.suppress(SQLAlchemyError), read_only(engine).connect() as connection:
                if not store.is_active(connection, import_id):
                    raise Interrupted("its import does not go on")
            left = until - timer()
            if left <= 0:
                return
            sleep(min(left, LOOK_SECONDS))

    return wait
