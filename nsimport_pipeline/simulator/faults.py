"""What goes wrong at the simulated account: the grammar of faults, and who is hit.

Belongs here: parsing a SPEC and deciding, for one request, which fault it meets. Does not belong here: carrying a
fault out (``server.py``).
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.simulator.accounts import FEATURES, Variant

FAULTS_HELP = """\
SPEC is a comma-separated list. Faults that hit single SuiteQL requests:

  KIND[:PROBABILITY][=VALUE][@WHEN]

  429          too many requests; =SECONDS adds Retry-After
  500 502 503  server errors
  401 403      refused login, missing permission
  timeout      no answer for =SECONDS (900), then the connection ends
  slow         the answer takes =SECONDS (5) longer
  reset        the connection is reset in the middle of the body
  empty        200 with an empty body
  truncated    200 with JSON that breaks off
  short        the last =ROWS (1) rows are left out, hasMore is false
  duplicate    the last =ROWS (1) rows come twice
  wrongtotal   totalResults is off by =N (1)

  PROBABILITY is 0 to 1 (default 1). WHEN is @N, @N-M or @N-, in requests since the faults were set, or @As-Bs, in
  seconds since then.

Faults that last:

  outage:SECONDS[=500|502|503|reset]   nothing works, logins included (503)
  badcolumn:TABLE.COLUMN     500 for any statement with the column (TABLE may be *)
  removed:TABLE.COLUMN       400, Reason: REMOVED
  unknown:TABLE.COLUMN       400, Unknown identifier
  missing:TABLE              400, Record not found (its feature is off)
  denied:TABLE               400, Invalid search type (the role may not see it)
  without:FEATURE            {features}
  noise:N                    N other users take slots of the account
  slowrows:SECONDS           1,000 rows of 20 columns take SECONDS longer; more or fewer of either, in proportion
  crowd:N                    with more than N requests in flight, all of them together get less done than N: each
                             takes longer by the square of what they are too many
  tokenlife:SECONDS          access tokens issued from now on end sooner
  cap400                     400 instead of silence past 100,000 results
  wide                       statements with more than 100 columns work
  needasc                    ORDER BY without ASC or DESC finds nothing

Example: 429:0.05,500:0.01,slow:0.1=3,reset@20-25,badcolumn:transaction.memo
""".format(features=", ".join(FEATURES))

REQUEST_KINDS = frozenset(
    "429 500 502 503 401 403 timeout slow reset empty truncated short duplicate wrongtotal".split()
)
SLOW_CELLS = 20_000
_COLUMN_KINDS = {"badcolumn": "broken", "removed": "removed", "unknown": "unknown"}
_TABLE_KINDS = {"missing": "missing", "denied": "denied"}
_SWITCHES = frozenset({"cap400", "wide", "needasc"})
_VALUES = {"timeout": 900.0, "slow": 5.0, "short": 1.0, "duplicate": 1.0, "wrongtotal": 1.0}
_ITEM = re.compile(r"^(?P<kind>[a-z0-9]+)(:(?P<argument>[^=@]+))?(=(?P<value>[^@]+))?(@(?P<when>.+))?$")
_WHEN = re.compile(r"^(?P<low>\d+(\.\d+)?)(?P<s1>s?)(?P<dash>-)?((?P<high>\d+(\.\d+)?)(?P<s2>s?))?$")


@dataclass(frozen=True)
class RequestFault:
    """A fault that hits single requests."""

    kind: str
    probability: float = 1.0
    value: float | None = None
    low: float = 0
    high: float = float("inf")
    in_seconds: bool = False

    def due(self, number: int, seconds: float) -> bool:
        """Whether the request is inside the fault's window."""
        return self.low <= (seconds if self.in_seconds else number) <= self.high


@dataclass(frozen=True)
class FaultPlan:
    """A parsed SPEC."""

    requests: tuple[RequestFault, ...] = ()
    variant: Variant = field(default_factory=Variant)
    outage: float = 0.0
    outage_kind: str = "503"
    noise: int = 0
    token_lifetime: float | None = None
    slow_rows: float = 0.0
    crowd: float = float("inf")
    switches: frozenset[str] = frozenset()

    def service_seconds(self, latency: float, cells: int, in_flight: int) -> float:
        """How long an answer takes that holds so many values and would take ``latency`` seconds with none."""
        return (latency + self.slow_rows * cells / SLOW_CELLS) * max(1.0, in_flight / self.crowd) ** 2


def parse_faults(spec: str) -> FaultPlan:
    """Read a SPEC. Raises ConfigurationError naming the part that is wrong."""
    requests: list[RequestFault] = []
    sets: dict[str, set[object]] = {name: set() for name in ("missing", "denied", "unknown", "removed", "broken")}
    outage, outage_kind, noise, lifetime = 0.0, "503", 0, None
    slow_rows, crowd = 0.0, float("inf")
    switches: set[str] = set()
    for part in (p.strip() for p in spec.split(",")):
        if not part:
            continue
        match = _ITEM.match(part.lower())
        if match is None:
            raise _wrong(part, "not KIND[:ARGUMENT][=VALUE][@WHEN]")
        kind, argument, value, when = match.group("kind", "argument", "value", "when")
        if when and kind not in REQUEST_KINDS:
            raise _wrong(part, f"{kind} takes no @WHEN")
        if kind in REQUEST_KINDS:
            requests.append(_request_fault(part, kind, argument, value, when))
        elif kind in _SWITCHES:
            switches.add(kind)
        elif argument is None:
            raise _wrong(part, "needs an argument after a colon" if kind in _LASTING else f"unknown fault {kind!r}")
        elif kind in _COLUMN_KINDS:
            table, dot, column = argument.partition(".")
            if not dot or not table or not column:
                raise _wrong(part, f"write it as {kind}:TABLE.COLUMN")
            sets[_COLUMN_KINDS[kind]].add((table, column))
        elif kind in _TABLE_KINDS:
            sets[_TABLE_KINDS[kind]].add(argument)
        elif kind == "without":
            if argument not in FEATURES:
                raise _wrong(part, f"unknown feature {argument!r}; known are {', '.join(FEATURES)}")
            for name in sets:
                sets[name] |= getattr(FEATURES[argument], name)
        elif kind == "outage":
            outage = _number(part, argument)
            if value not in (None, "500", "502", "503", "reset"):
                raise _wrong(part, "an outage shows as 500, 502, 503 or reset")
            outage_kind = value or outage_kind
        elif kind == "noise":
            noise = int(_number(part, argument))
        elif kind == "tokenlife":
            lifetime = _number(part, argument)
        elif kind == "slowrows":
            slow_rows = _number(part, argument)
        elif kind == "crowd":
            crowd = max(1.0, _number(part, argument))
        else:
            raise _wrong(part, f"unknown fault {kind!r}")
    variant = Variant(**{name: frozenset(found) for name, found in sets.items()})  # type: ignore[arg-type]
    return FaultPlan(
        tuple(requests), variant, outage, outage_kind, noise, lifetime, slow_rows, crowd, frozenset(switches)
    )


_LASTING = frozenset({*_COLUMN_KINDS, *_TABLE_KINDS, "without", "outage", "noise", "tokenlife", "slowrows", "crowd"})


def _request_fault(part: str, kind: str, argument: str | None, value: str | None, when: str | None) -> RequestFault:
    probability = 1.0 if argument is None else _number(part, argument)
    if probability > 1:
        raise _wrong(part, "a probability is between 0 and 1")
    amount = _VALUES.get(kind) if value is None else _number(part, value, negative=kind == "wrongtotal")
    if when is None:
        return RequestFault(kind, probability, amount)
    match = _WHEN.match(when)
    if match is None or (match["high"] and match["s1"] != match["s2"]) or (match["high"] and not match["dash"]):
        raise _wrong(part, "WHEN is @N, @N-M or @N- in requests, or @As-Bs in seconds")
    low = float(match["low"])
    high = float(match["high"]) if match["high"] else (float("inf") if match["dash"] else low)
    if high < low:
        raise _wrong(part, "WHEN ends before it begins")
    return RequestFault(kind, probability, amount, low, high, bool(match["s1"]))


def _number(part: str, text: str, *, negative: bool = False) -> float:
    try:
        number = float(text)
    except ValueError:
        raise _wrong(part, f"{text!r} is not a number") from None
    if number != number or (number < 0 and not negative):
        raise _wrong(part, f"{text!r} is not a number from 0 up")
    return number


def _wrong(part: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"--faults: {part}: {why}; `nsimport simulate --help` shows the grammar")


class Faults:
    """The faults in force. ``clock`` gives seconds from any origin; decisions are drawn from ``seed``."""

    def __init__(self, plan: FaultPlan, seed: int, clock: Callable[[], float]) -> None:
        self.plan = plan
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._clock = clock
        self._began = clock()
        self._number = 0

    def outage(self) -> str | None:
        """How everything fails now, if there is an outage."""
        return self.plan.outage_kind if self._clock() - self._began < self.plan.outage else None

    def strike(self) -> RequestFault | None:
        """The fault that hits the next request, if any; each call counts one request."""
        self._number += 1
        seconds = self._clock() - self._began
        for fault in self.plan.requests:
            if fault.due(self._number, seconds) and self._random.random() < fault.probability:
                return fault
        return None
