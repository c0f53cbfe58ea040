"""Working a run's batches with as many worker threads as it holds slots.

Belongs here: sharing batches out over workers, taking and giving back slots. Does not belong here: the work of one
batch (``batch.py``), or Dagster: what is settled is yielded to the caller, who reports it.

The first worker works under the slot that the run holds anyway; each further one under a slot it claims from the
tenant's pool and gives back when the work runs out, when somebody else waits for one, or when NetSuite refuses.
"""

import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from nsimport_pipeline.errors import Category
from nsimport_pipeline.imports.batch import Result, Workshop, work_on
from nsimport_pipeline.imports.records import Batch
from nsimport_pipeline.netsuite.retrying import RetryEvent
from nsimport_pipeline.netsuite.slots import SlotPool

BALANCE_SECONDS = 0.5
"""How often the number of workers is looked at again."""
CALM_SECONDS = 10.0
"""How long NetSuite must not have refused a request before one more worker is tried."""


@dataclass
class Throttle:
    """How many workers a run may have: fewer after each refusal by NetSuite, one more after each calm spell.

    A listener of the NetSuite client; ``clock`` gives seconds.
    """

    most: int
    target: int = field(init=False)
    changed_at: float = float("-inf")

    def __post_init__(self) -> None:
        self.target = self.most
        self._lock = threading.Lock()
        self._refused = False

    def on_retry(self, event: RetryEvent) -> None:
        if event.category is Category.API_RATE_LIMIT:
            with self._lock:
                self._refused = True

    def adjust(self, now: float) -> int:
        """The number of workers allowed at ``now``. Refusals in one spell count once: they come in bursts."""
        with self._lock:
            refused, self._refused = self._refused, False
        if refused and now - self.changed_at >= 1.0:
            self.target, self.changed_at = max(1, self.target - 1), now
        elif not refused and self.target < self.most and now - self.changed_at >= CALM_SECONDS:
            self.target, self.changed_at = self.target + 1, now
        return self.target


def execute(
    batches: Sequence[Batch],
    shop: Workshop,
    *,
    slots: SlotPool | None,
    throttle: Throttle,
    stop: threading.Event,
) -> Iterator[Result]:
    """Work the batches, yielding each result as it comes; ends when all are done or ``stop`` is set.

    An exception of a worker stops the others and is raised. Closing the iterator stops the workers too; one in the
    middle of a request is not waited for, its batch is folded later.
    """
    crew = _Crew(batches, shop, slots, stop)
    try:
        crew.hire(None)
        balanced_at = float("-inf")
        while crew.busy:
            try:
                result = crew.results.get(timeout=0.1)
            except queue.Empty:
                pass
            else:
                if isinstance(result, BaseException):
                    raise result
                yield result
            now = shop.timer()
            if now - balanced_at >= BALANCE_SECONDS:
                balanced_at = now
                crew.balance(throttle.adjust(now))
        while not crew.results.empty():
            result = crew.results.get()
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        stop.set()
        crew.dismiss()


class _Crew:
    """The worker threads of a run, and the batches they have left."""

    def __init__(self, batches: Sequence[Batch], shop: Workshop, slots: SlotPool | None, stop: threading.Event) -> None:
        self.results: queue.SimpleQueue[Result | BaseException] = queue.SimpleQueue()
        self._left = deque(batches)
        self._shop = shop
        self._slots = slots
        self._stop = stop
        self._lock = threading.Lock()
        self._helpers: set[str] = set()
        self._to_leave = 0
        self._working = 0

    @property
    def busy(self) -> bool:
        return self._working > 0

    def hire(self, slot: str | None) -> None:
        """Start a worker under ``slot``, or under the run's own."""
        self._working += 1
        if slot is not None:
            self._helpers.add(slot)
        name = f"netsuite-{slot or 'own'}"
        threading.Thread(target=self._run, args=(slot,), name=name, daemon=True).start()

    def balance(self, target: int) -> None:
        """Have at most ``target`` workers, no more than there is work for, and none another run waits for."""
        if self._slots is None:
            return
        with self._lock:
            helpers = len(self._helpers) - self._to_leave
        wanted = min(target - 1, helpers + len(self._left))
        if helpers and (helpers > wanted or self._slots.contended()):
            with self._lock:
                self._to_leave += 1
        elif helpers < wanted and not self._slots.contended():
            while helpers < wanted and (slot := self._slots.try_claim()) is not None:
                self.hire(slot)
                helpers += 1

    def dismiss(self) -> None:
        """Give back the slots of workers that could not do so themselves."""
        if self._slots is not None:
            for slot in list(self._helpers):
                self._slots.release(slot)

    def _run(self, slot: str | None) -> None:
        try:
            while not self._stop.is_set() and not self._may_leave(slot):
                try:
                    batch = self._left.popleft()
                except IndexError:
                    break
                self.results.put(work_on(batch, self._shop))
        except BaseException as error:
            self.results.put(error)
        finally:
            if slot is not None:
                self._give_back(slot)
            with self._lock:
                self._working -= 1

    def _may_leave(self, slot: str | None) -> bool:
        with self._lock:
            if slot is None or not self._to_leave:
                return False
            self._to_leave -= 1
            return True

    def _give_back(self, slot: str) -> None:
        if self._slots is not None:
            self._slots.release(slot)
        with self._lock:
            self._helpers.discard(slot)
