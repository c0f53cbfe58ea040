"""Working a run's batches with as many fetching threads as it holds slots.

Belongs here: sharing batches out over threads, taking and giving back slots. Does not belong here: the work of one
batch (``batch.py``), or Dagster: what is settled is yielded to the caller, who reports it.

Fetchers hold slots and do nothing but ask NetSuite, so that a slot never idles while rows are transformed or written;
a few writers do the rest. The first fetcher works under the slot that the run holds anyway; each further one under a
slot it claims from the tenant's pool and gives back when the work runs out, when somebody else waits for one, when
NetSuite refuses, or when as many bring no more than fewer (``climb.py``).
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from nsimport_pipeline.errors import Category
from nsimport_pipeline.imports.batch import Page, Result, Workshop, await_netsuite, fetch, keep, release
from nsimport_pipeline.imports.climb import Climber
from nsimport_pipeline.imports.records import Batch
from nsimport_pipeline.imports.wanted import Interrupted
from nsimport_pipeline.netsuite.retrying import RetryEvent
from nsimport_pipeline.netsuite.slots import SlotPool

WRITERS = 2
"""Threads that transform and write. More only wait for each other: for the interpreter, and for the table's log."""
PAGES_AHEAD = 1
"""Fetched batches that may wait for a writer: a bound on memory."""
BALANCE_SECONDS = 0.5
"""How often the number of fetchers is looked at again."""
DISMISS_SECONDS = 2.0
"""How long threads that are told to stop are waited for."""
CALM_SECONDS = 10.0
"""How long NetSuite must not have refused a request before one more fetcher is tried."""


@dataclass
class Throttle:
    """How many fetchers a run may have: fewer after each refusal by NetSuite, one more after each calm spell.

    A listener of the NetSuite client. Times are seconds of any clock that only goes forward.
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
        """The number of fetchers allowed at ``now``. Refusals in one spell count once: they come in bursts."""
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
    climber: Climber | None = None,
    closing: Callable[[], None] = lambda: None,
) -> Iterator[Result]:
    """Work the batches, yielding each result as it comes; ends when all are done or ``stop`` is set.

    ``closing`` is called once under a slot when no batch is left to fetch, while the last ones are still under way.
    An exception of a thread stops the others and is raised. Closing the iterator stops them too; one in the middle of
    a request is not waited for, its batch is folded later.
    """
    climber = climber or Climber(throttle.most)
    crew = _Crew(batches, shop, slots, stop, climber, closing)
    try:
        crew.begin()
        balanced_at = float("-inf")
        while crew.busy or not crew.results.empty():
            try:
                result = crew.results.get(timeout=0.05)
            except queue.Empty:
                pass
            else:
                if isinstance(result, BaseException):
                    raise result
                yield result
            now = shop.timer()
            if now - balanced_at >= BALANCE_SECONDS:
                balanced_at = now
                target = min(throttle.adjust(now), climber.adjust(now, crew.fetchers))
                crew.balance(1 if shop.circuit is not None and shop.circuit.open else target)
    finally:
        stop.set()
        crew.dismiss()


class _Crew:
    """The threads of a run, and the batches they have left."""

    def __init__(
        self,
        batches: Sequence[Batch],
        shop: Workshop,
        slots: SlotPool | None,
        stop: threading.Event,
        climber: Climber,
        closing: Callable[[], None],
    ) -> None:
        self.results: queue.SimpleQueue[Result | BaseException] = queue.SimpleQueue()
        self._left = deque(batches)
        self._pages: queue.Queue[Page] = queue.Queue(PAGES_AHEAD)
        self._shop = shop
        self._slots = slots
        self._stop = stop
        self._climber = climber
        self._closing: Callable[[], None] | None = closing
        self._lock = threading.Lock()
        self._helpers: set[str] = set()
        self._to_leave = 0
        self._sent_home = 0
        """Helpers that leave because of an outage, and have not gone yet."""
        self._fetching = 0
        self._writing = 0

    @property
    def busy(self) -> bool:
        return self._fetching + self._writing > 0

    @property
    def fetchers(self) -> int:
        return self._fetching

    def begin(self) -> None:
        """Start the writers, and the fetcher that works under the run's own slot."""
        self._hire(None)
        writers = min(WRITERS, max(1, len(self._left)))
        with self._lock:
            self._writing = writers
        for number in range(writers):
            threading.Thread(target=self._write, name=f"writer-{number}", daemon=True).start()

    def balance(self, target: int) -> None:
        """Have at most ``target`` fetchers, no more than there is work for, and none another run waits for."""
        if self._slots is None or self._stop.is_set():
            return
        with self._lock:
            helpers = len(self._helpers) - self._to_leave
        wanted = min(target - 1, helpers + len(self._left))
        if helpers and (helpers > wanted or self._slots.contended()):
            with self._lock:
                self._to_leave += 1
        elif helpers < wanted and not self._slots.contended():
            while helpers < wanted and (slot := self._slots.try_claim()) is not None:
                self._hire(slot)
                helpers += 1

    def dismiss(self) -> None:
        """Wait a moment for the threads to stop by themselves.

        A fetcher that is still in the middle of a request keeps its slot, as the request keeps NetSuite's: Dagster
        frees it after the run has ended.
        """
        deadline = time.monotonic() + DISMISS_SECONDS
        while self.busy and time.monotonic() < deadline:
            time.sleep(0.02)

    def _hire(self, slot: str | None) -> None:
        with self._lock:
            self._fetching += 1
            if slot is not None:
                self._helpers.add(slot)
        threading.Thread(target=self._fetch, args=(slot,), name=f"fetcher-{slot or 'own'}", daemon=True).start()

    def _fetch(self, slot: str | None) -> None:
        leaving = False
        try:
            while not self._stop.is_set() and not self._may_leave(slot):
                try:
                    batch = self._left.popleft()
                except IndexError:
                    self._close()
                    break
                began = self._shop.timer()
                page = fetch(batch, self._shop)
                if isinstance(page, Result) and page.outcome == "put_off":
                    self._left.appendleft(batch)
                    leaving = self._may_go_home(slot)
                    if leaving or not self._sit_out():
                        break
                elif isinstance(page, Result):
                    self.results.put(page)
                else:
                    got = page.fetched
                    self._climber.saw(len(got.items), got.seconds - got.waited_seconds, began)
                    self._hand_over(page)
        except BaseException as error:
            self.results.put(error)
        finally:
            try:
                if slot is not None:
                    self._give_back(slot)
            finally:
                with self._lock:
                    self._fetching -= 1
                    self._sent_home -= leaving

    def _may_go_home(self, slot: str | None) -> bool:
        """Whether a fetcher gives its slot back while NetSuite is down: one, with the run's own slot, waits for all."""
        with self._lock:
            going = slot is not None and self._fetching - self._sent_home > 1
            self._sent_home += going
        return going

    def _sit_out(self) -> bool:
        """Wait until NetSuite answers again. False if there is nothing to go on with."""
        try:
            await_netsuite(self._shop)
        except Interrupted:
            return False
        return True

    def _hand_over(self, page: Page) -> None:
        while not self._stop.is_set():
            try:
                self._pages.put(page, timeout=0.1)
                return
            except queue.Full:
                continue
        self.results.put(release(page.batch, self._shop))

    def _write(self) -> None:
        try:
            while True:
                over = self._fetching == 0
                try:
                    page = self._pages.get(timeout=0.02)
                except queue.Empty:
                    # Looked at before the queue, so that a page handed over last is not left behind.
                    if over:
                        return
                    continue
                stopped = self._stop.is_set()
                self.results.put(release(page.batch, self._shop) if stopped else keep(page, self._shop))
        except BaseException as error:
            self.results.put(error)
        finally:
            with self._lock:
                self._writing -= 1

    def _close(self) -> None:
        with self._lock:
            closing, self._closing = self._closing, None
        if closing is not None:
            closing()

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
