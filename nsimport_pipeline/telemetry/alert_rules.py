"""The alert rules: what fires, from what is known of a tenant and the thresholds.

Belongs here: pure judgement. Does not belong here: reading the facts (``imports/alerting.py``), the defaults of the
thresholds (``alert_settings.py``), or an alert's life (``alerts.py``). docs/runbook.md says what each rule means.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from nsimport_pipeline.alert_settings import AlertRules, RuleName
from nsimport_pipeline.telemetry.alerts import LONGEST_COMMAND, LONGEST_MESSAGE, Alert, Key
from nsimport_pipeline.telemetry.facts import ON_THE_WAY, BatchFact, ImportFacts
from nsimport_pipeline.telemetry.watched import RECENT, Pace, Watched
from nsimport_pipeline.telemetry.waves import next_wave, turnovers

NEWS = timedelta(days=1)
"""An import that failed longer ago is no news to somebody who starts the daemon today."""
FEWEST_RETRIED, FEWEST_RECENT, FEWEST_USUAL = 5, 5, 20
"""Batches below which a share or a pace says nothing."""

Rule = Callable[[Watched, AlertRules, datetime, frozenset[Key]], Iterator[Alert]]


def judge(watched: Watched, rules: AlertRules, now: datetime, before: frozenset[Key] = frozenset()) -> list[Alert]:
    """Every alert that fires now. ``before``: those that were firing already."""
    looked_at = [rule for name, rule in RULES.items() if name not in rules.off]
    return [alert for rule in looked_at for alert in rule(watched, rules, now, before)]


def _ended(name: RuleName, state: str, command: str) -> Rule:
    def rule(watched: Watched, rules: AlertRules, now: datetime, before: frozenset[Key]) -> Iterator[Alert]:
        later: set[str] = set()
        for ended in watched.latest:
            if ended.finished_at is None:
                continue
            repeated = bool(later) and set(ended.requested) <= later
            later |= set(ended.requested) if ended.state != "cancelled" else set()
            news = now - ended.finished_at <= NEWS or (name, ended.import_id) in before
            if ended.state == state and news and not repeated:
                said = f"the import ended as {state}: {ended.reason or 'no reason was kept'}"[:LONGEST_MESSAGE]
                yield Alert(name, ended.import_id, said, f"{command} {ended.import_id}", ended.import_id)

    return rule


def _stuck_wave(watched: Watched, rules: AlertRules, now: datetime, before: frozenset[Key]) -> Iterator[Alert]:
    for import_id, (wave, since) in watched.stuck.items():
        said = f"nothing has moved in wave {wave} since {since:%Y-%m-%d %H:%M} UTC"
        yield Alert("stuck_wave", import_id, said, f"nsimport waves reset {import_id} {wave}", import_id)


def _netsuite_down(watched: Watched, rules: AlertRules, now: datetime, before: frozenset[Key]) -> Iterator[Alert]:
    since = watched.netsuite_down_since
    if since is not None:
        said = f"NetSuite has not been answering since {since:%Y-%m-%d %H:%M} UTC; imports wait and go on by themselves"
        yield Alert("netsuite_down", watched.tenant, said, f"nsimport doctor --tenant {watched.tenant}")


def _completeness(watched: Watched, rules: AlertRules, now: datetime, before: frozenset[Key]) -> Iterator[Alert]:
    for count in watched.counts:
        again = count.in_sync is None and ("completeness", count.record_type) in before
        # A surplus is none: records that NetSuite deleted after they were imported.
        if again or (count.in_sync is False and count.table < count.source):
            said = f"NetSuite has {count.source} records, the table {count.table}"
            said = "it was not complete, and is being imported again" if again else said
            command = f"nsimport status {count.import_id}"
            yield Alert("completeness", count.record_type, said, command, count.import_id, count.record_type)


def _queue_depth(watched: Watched, rules: AlertRules, now: datetime, before: frozenset[Key]) -> Iterator[Alert]:
    for facts in _open(watched):
        most = rules.queue_depth if rules.queue_depth is not None else facts.wave_size * 4 // 3
        # Runs of waves that have not begun are held back by the gate.
        begun = {batch.wave for batch in facts.batches if batch.started_at is not None}
        queued = sum(batch.state in ON_THE_WAY and batch.wave in begun for batch in facts.batches)
        if queued > most:
            said = f"{queued} batches are given to runs that may start; more than {most} should never be"
            yield _of(facts, "queue_depth", said, f"nsimport waves {facts.import_id}")


def _batch_failures(watched: Watched, rules: AlertRules, now: datetime, before: frozenset[Key]) -> Iterator[Alert]:
    for facts in _open(watched):
        for record_type, batches in _by_type(facts.batches).items():
            final = sum(batch.state == "failed" for batch in batches)
            again = sum(b.attempts >= rules.batch_failures and not b.settled for b in batches)
            if final or again:
                said = f"{final} batches failed for good, {again} others failed {rules.batch_failures} times or more"
                yield _of(facts, "batch_failures", said, f"nsimport errors {facts.import_id}", record_type)


def _schema_errors(watched: Watched, rules: AlertRules, now: datetime, before: frozenset[Key]) -> Iterator[Alert]:
    for facts in watched.imports:
        for record_type, batches in _by_type(facts.batches).items():
            done = [b for b in batches if b.state == "completed"]
            refused = [b for b in batches if b.state == "failed" and b.category == "database_schema"]
            rejected = sum(b.rows_rejected for b in done) + sum(b.expected for b in refused)
            records = sum(b.rows_upserted + b.rows_rejected for b in done) + sum(b.expected for b in refused)
            if rejected * 100 > rules.schema_errors * records:
                said = f"the database did not take {rejected} of {records} records ({rejected / records:.0%})"
                yield _of(facts, "schema_errors", said, f"nsimport rejects {facts.import_id}", record_type)


def _retry_success(watched: Watched, rules: AlertRules, now: datetime, before: frozenset[Key]) -> Iterator[Alert]:
    for facts in watched.imports:
        outcomes = [batch.retried_within_wave for batch in facts.batches]
        succeeded, failed = sum(good for good, _ in outcomes), sum(bad for _, bad in outcomes)
        retried = succeeded + failed
        if retried >= FEWEST_RETRIED and succeeded * 100 < rules.retry_success * retried:
            said = f"of {retried} times that a batch's requests were sent again, {succeeded} brought it through"
            yield _of(facts, "retry_success", said, f"nsimport errors {facts.import_id}")


def _early_waves(watched: Watched, rules: AlertRules, now: datetime, before: frozenset[Key]) -> Iterator[Alert]:
    for facts in watched.imports:
        least = min(rules.early_waves, facts.completion_threshold)
        lately = [each for each in turnovers(facts) if now - each.at <= RECENT and each.ratio is not None]
        early = [each for each in lately if each.ratio is not None and each.ratio * 100 < least]
        if early:
            worst = min(early, key=lambda each: each.ratio or 0.0)
            said = f"wave {worst.wave} began while {worst.ratio:.0%} of the one before were settled, not {least:g} %"
            yield _of(facts, "early_waves", said, f"nsimport waves {facts.import_id} --stats")


def _behind(watched: Watched, rules: AlertRules, now: datetime, before: frozenset[Key]) -> Iterator[Alert]:
    for late in watched.behind:
        command = late.command
        # One that names all record types is longer than what can be kept.
        if command is None or len(command) > LONGEST_COMMAND:
            command = f"nsimport schedules --tenant {watched.tenant}"
        yield Alert("behind", late.schedule, late.said[:LONGEST_MESSAGE], command)


def _connections(watched: Watched, rules: AlertRules, now: datetime, before: frozenset[Key]) -> Iterator[Alert]:
    if watched.connections is not None:
        in_use, most = watched.connections
        if in_use * 100 > rules.database_connections * most:
            said = f"{in_use} of the {most} connections that the database's server takes are open"
            yield Alert("database_connections", watched.tenant, said, f"nsimport doctor --tenant {watched.tenant}")


def _dispatch_lag(watched: Watched, rules: AlertRules, now: datetime, before: frozenset[Key]) -> Iterator[Alert]:
    for facts in watched.imports:
        lags = [(each.wave, each.lag) for each in turnovers(facts) if now - each.at <= RECENT]
        waiting = next_wave(facts) if facts.state == "running" and watched.netsuite_down_since is None else None
        if waiting is not None:
            lags.append((waiting[0], (now - waiting[1]).total_seconds()))
        wave, lag = max(lags, key=lambda each: each[1], default=(0, 0.0))
        if lag > rules.dispatch_lag:
            said = f"wave {wave} could begin, and for {lag:.0f} s did not; {rules.dispatch_lag:g} s are allowed"
            yield _of(facts, "dispatch_lag", said, f"nsimport status {facts.import_id}")


def _throughput(watched: Watched, rules: AlertRules, now: datetime, before: frozenset[Key]) -> Iterator[Alert]:
    for facts in _open(watched):
        for record_type, batches in _by_type(facts.batches).items():
            usual, recent = watched.usual.get(record_type), pace(batches, now - RECENT)
            if usual is None or usual.batches < FEWEST_USUAL or recent.batches < FEWEST_RECENT:
                continue
            if recent.seconds > 0 and recent.rate * 100 < rules.throughput * usual.rate:
                said = f"{recent.rate:.0f} records for each second of work, usually {usual.rate:.0f}"
                yield _of(facts, "throughput", said, f"nsimport status {facts.import_id}", record_type)


def _slot_utilisation(watched: Watched, rules: AlertRules, now: datetime, before: frozenset[Key]) -> Iterator[Alert]:
    used = 100 * watched.slot_seconds / (watched.slots * rules.slot_utilisation_for)
    if used > rules.slot_utilisation:
        minutes = rules.slot_utilisation_for / 60
        said = f"{min(used, 100):.0f} % of the slots' time in the last {minutes:g} min went to NetSuite's answers"
        yield Alert("slot_utilisation", watched.tenant, said, f"nsimport slots --tenant {watched.tenant}")


RULES: dict[RuleName, Rule] = {
    "import_failed": _ended("import_failed", "failed", "nsimport resume"),
    "stuck_wave": _stuck_wave,
    "netsuite_down": _netsuite_down,
    "completeness": _completeness,
    "queue_depth": _queue_depth,
    "import_with_failures": _ended("import_with_failures", "completed_with_failures", "nsimport errors"),
    "batch_failures": _batch_failures,
    "schema_errors": _schema_errors,
    "retry_success": _retry_success,
    "early_waves": _early_waves,
    "behind": _behind,
    "database_connections": _connections,
    "dispatch_lag": _dispatch_lag,
    "throughput": _throughput,
    "slot_utilisation": _slot_utilisation,
}


def pace(batches: Sequence[BatchFact], since: datetime) -> Pace:
    """How fast the batches completed after ``since`` were."""
    done = [b for b in batches if b.state == "completed" and b.finished_at is not None and b.finished_at >= since]
    seconds = sum(b.slot_wait_seconds + b.fetch_seconds + b.transform_seconds + b.write_seconds for b in done)
    return Pace(len(done), sum(b.rows_read for b in done), seconds)


def _open(watched: Watched) -> list[ImportFacts]:
    return [facts for facts in watched.imports if facts.is_open]


def _by_type(batches: Sequence[BatchFact]) -> dict[str, list[BatchFact]]:
    found: dict[str, list[BatchFact]] = {}
    for batch in batches:
        found.setdefault(batch.record_type, []).append(batch)
    return found


def _of(facts: ImportFacts, rule: RuleName, said: str, command: str, record_type: str | None = None) -> Alert:
    subject = facts.import_id if record_type is None else f"{facts.import_id}/{record_type}"
    return Alert(rule, subject, said, command, facts.import_id, record_type)
