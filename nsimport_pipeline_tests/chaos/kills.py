"""What a killed run costs: batches that were fetched twice.

Belongs here: counting them from the simulator's requests. Does not belong here: killing (``drive.py``).
"""

import sqlalchemy as sa

from nsimport_pipeline_tests.chaos.drive import Story

FINAL = 1
"""The count at the end; a run that is killed may have taken it already."""


def done_twice(story: Story) -> list[str]:
    """Whether more batches were fetched again than were in flight when the runs were killed."""
    engine = sa.create_engine(story.url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        in_flight = connection.execute(
            sa.text(
                "SELECT COUNT(*) FROM job_events WHERE import_id = :id AND message LIKE '%ended before it was finished'"
            ),
            {"id": story.import_id},
        ).scalar_one()
    asked = sum(1 for entry in story.statistics["log"] if entry["kind"] == "suiteql")
    again = asked - story.planning_requests - story.plan.batches - FINAL
    story.log.append(f"{again} requests were sent again, {in_flight} batches were in flight as a run was killed")
    most = in_flight + story.killed * FINAL
    return [f"{again} requests were sent again, and only {in_flight} batches were in flight"] if again > most else []
