"""What goes wrong in one import, drawn from a seed: the same seed, the same schedule.

Belongs here: pure draws, and saying them. Does not belong here: carrying them out (``drive.py``), or what must hold all
the same (``verify.py``).
"""

from dataclasses import dataclass, field, replace
from random import Random

RECORD_TYPES = ("employee", "customer", "opportunity", "sales_order")
"""In the order of their levels, which are all different."""
LINES = "transaction_line"
"""Derived from sales orders: planned when they are in, and replaced as a set."""
SOURCES = {
    "employee": ("employee", "title"),
    "customer": ("customer", "comments"),
    "opportunity": ("transaction", "memo"),
    "sales_order": ("transaction", "memo"),
}
"""The NetSuite table of each, and a column that somebody may edit."""
LOSABLE = {"employee": "middlename", "customer": "fax"}
"""A column of each that an account may not have; the NetSuite table is called like the record type."""
PROCESS_BLOWS = ("kill run", "kill daemon", "kill code server", "kill database", "cut connections")
STEERING_BLOWS = ("cancel", "cancel now", "ask again")


@dataclass(frozen=True)
class Blow:
    """Something done from outside to an import or to what carries it."""

    kind: str
    at: float
    """Share of the batches that are settled by then, from 0 (planned) to 1."""
    after: float
    """Seconds later than that."""
    lasting: float = 0.0
    """Seconds, of what lasts."""

    def __str__(self) -> str:
        lasting = f" for {self.lasting:.1f} s" if self.lasting else ""
        return f"at {self.at:.0%} + {self.after:.1f} s: {self.kind}{lasting}"


@dataclass(frozen=True)
class Plan:
    """One import and what happens to it. Times are in seconds."""

    seed: int
    kind: str
    """``seed``, or ``kill`` where only a run is killed."""
    database: str
    """``mysql`` or ``sqlite``: where the imported tables are."""
    auth: str
    rows: dict[str, int]
    batch_size: int
    wave_size: int
    completion_threshold: float
    slots: int
    spare: int
    """Requests that the account takes at once beyond ``slots``."""
    latency: float
    retry_attempts: int
    derived: bool = False
    """Whether the lines of its sales orders are imported too."""
    faults: tuple[str, ...] = ()
    """In the simulator's grammar."""
    early: bool = False
    """Whether the faults are there while the import is planned."""
    blows: tuple[Blow, ...] = ()
    lost: tuple[str, str] | None = None
    """A record type, and a column of NetSuite's that the account does not have or cannot give."""
    denied: bool = False
    """Whether NetSuite refuses the login for a while, which stops the import."""
    edits: int = 0
    """Rows that are changed, and as many inserted and deleted, while the import runs."""
    notes: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        return f"{self.kind} {self.seed}"

    @property
    def spec(self) -> str:
        return ",".join(self.faults)

    @property
    def record_types(self) -> tuple[str, ...]:
        return (*self.rows, LINES) if self.derived else tuple(self.rows)

    @property
    def batches(self) -> int:
        return sum(-(-count // self.batch_size) for count in self.rows.values())

    @property
    def longest_request(self) -> float:
        """Seconds that the longest single request may take."""
        return REQUEST_TIMEOUT if any(fault.startswith(("slow", "timeout")) for fault in self.faults) else 1.0

    def without(self, kind: str) -> "Plan":
        """The same plan less its blows of one kind."""
        return replace(self, blows=tuple(blow for blow in self.blows if blow.kind != kind))

    def lines(self) -> list[str]:
        """The schedule, for people."""
        rows = ", ".join(f"{count} {name}" for name, count in self.rows.items()) + " with lines" * self.derived
        return [
            f"{self.name}: {rows} into {self.database}, {self.batches} batches of {self.batch_size}, waves of "
            f"{self.wave_size} at {self.completion_threshold:g}%, {self.slots}+{self.spare} slots, {self.auth}, "
            f"{self.latency:.2f} s a request, {self.retry_attempts} retries",
            *([f"faults{' from the plan on' if self.early else ''}: {self.spec}"] if self.faults else []),
            *([f"login refused ({DENIED})"] if self.denied else []),
            *([f"{self.edits} rows each changed, inserted and deleted on the way"] if self.edits else []),
            *(str(blow) for blow in self.blows),
            *self.notes,
        ]


REQUEST_TIMEOUT = 3
"""The tenants' ``request_timeout``."""
DENIED = "401@8-"


def draw(seed: int) -> Plan:
    """The schedule of a seed."""
    random = Random(f"chaos {seed}")
    database = "mysql" if random.random() < 0.7 else "sqlite"
    batch_size = random.randint(20, 60)
    names = sorted(random.sample(RECORD_TYPES, random.choice((1, 1, 1, 2, 2, 3))), key=RECORD_TYPES.index)
    rows = {name: random.randint(3, 12) * batch_size - random.randrange(batch_size) for name in names}
    faults, lost = _faults(random, names)
    denied = random.random() < 0.1
    auth = random.choice(("tba", "oauth2", "oauth2_ec"))
    blows = _blows(random, database, auth)
    edits = random.choice((0, 0, 5))
    if edits:
        blows.append(Blow("edit", random.uniform(0.0, 0.7), random.random()))
    return Plan(
        seed=seed,
        kind="seed",
        database=database,
        auth=auth,
        rows=rows,
        batch_size=batch_size,
        wave_size=random.randint(5, 16),
        completion_threshold=random.choice((100, 90, 75, 50)),
        slots=random.randint(1, 4),
        spare=random.choice((0, 0, 1, 2)),
        latency=random.uniform(0.05, 0.5),
        retry_attempts=random.randint(6, 9),
        # Drawn apart, so that the rest of a seed is the same with and without.
        derived="sales_order" in rows and not edits and Random(f"lines {seed}").random() < 0.6,
        faults=faults,
        early=random.random() < 0.2,
        blows=tuple(sorted(blows, key=lambda blow: (blow.at, blow.after))),
        lost=lost,
        denied=denied,
        edits=edits,
    )


def draw_kill(seed: int) -> Plan:
    """An import without any fault whose run is killed once: what is done twice can be counted."""
    random = Random(f"kill {seed}")
    batch_size = 30
    everything = random.random() < 0.4
    return Plan(
        seed=seed,
        kind="kill",
        database="mysql",
        auth="tba",
        rows={"customer": 30 * batch_size - random.randrange(batch_size)},
        batch_size=batch_size,
        wave_size=30,
        completion_threshold=90,
        slots=4,
        spare=4,
        latency=0.15,
        # Another lane may kill everything, too.
        retry_attempts=9,
        blows=(Blow("kill all" if everything else "kill run", random.random() * 0.9, random.random() * 0.3),),
    )


def _faults(random: Random, names: list[str]) -> tuple[tuple[str, ...], tuple[str, str] | None]:
    """One to four faults of single requests or of the account, and the column that is missing because of them."""
    start = random.randint(0, 6)
    window = f"@{start}s-{start + random.randint(2, 6)}s"
    much, little = random.uniform(0.3, 0.6), random.uniform(0.05, 0.15)
    choices = {
        "429 burst": f"429:{much:.2f}{window}",
        "429": f"429:{little:.2f}=1",
        "noise": "noise:1",
        "500": f"500:{little:.2f}",
        "502": f"502:{little:.2f}",
        "503": f"503:{little:.2f}",
        "503 burst": f"503:{much:.2f}{window}",
        "outage": f"outage:{random.randint(2, 8)}={random.choice(('500', '502', '503', 'reset'))}",
        "timeout": f"timeout:{little:.2f}=2",
        "slow": f"slow:{little:.2f}={REQUEST_TIMEOUT + 2}",
        "sluggish": f"slow:{much:.2f}=0.5{window}",
        "reset": f"reset:{little:.2f}",
        "empty": f"empty:{little:.2f}",
        "truncated": f"truncated:{little:.2f}",
        "short": f"short:{little:.2f}={random.randint(1, 5)}",
        "duplicate": f"duplicate:{little:.2f}={random.randint(1, 3)}",
        "wrongtotal": f"wrongtotal:{little:.2f}={random.choice((-1, 1, 7))}",
        "tokenlife": f"tokenlife:{random.randint(2, 5)}",
    }
    lost = next(((name, LOSABLE[name]) for name in names if name in LOSABLE), None)
    if lost is not None:
        choices |= {f"{kind} column": f"{kind}:{'.'.join(lost)}" for kind in ("unknown", "removed", "badcolumn")}
    kinds = random.sample(sorted(choices), random.choice((0, 1, 2, 2, 3, 4)))
    return tuple(choices[kind] for kind in kinds), lost if any("column" in kind for kind in kinds) else None


def _blows(random: Random, database: str, auth: str) -> list[Blow]:
    """None to three blows; at most one of them steers."""
    kinds = list(PROCESS_BLOWS)
    weights = [4, 2, 2, 2, 2]
    if database == "sqlite":
        weights[3] = weights[4] = 0
    blows = [
        Blow(kind, random.uniform(0.0, 0.9), random.uniform(0.0, 1.5), _lasting(random, kind))
        for kind in random.choices(kinds, weights, k=random.choice((0, 1, 1, 2)))
    ]
    if random.random() < 0.35:
        blows.append(Blow(random.choice(STEERING_BLOWS), random.uniform(0.0, 0.9), random.uniform(0.0, 1.5)))
    if auth != "tba" and random.random() < 0.3:
        blows.append(Blow("revoke tokens", random.uniform(0.0, 0.9), random.uniform(0.0, 2.0)))
    return blows


def _lasting(random: Random, kind: str) -> float:
    return random.uniform(0.5, 6.0) if kind == "kill database" else 0.0
