"""What a killed run costs: batches that were fetched twice.

Belongs here: counting them from the simulator's requests. Does not belong here: killing (``drive.py``).
"""

from nsimport_pipeline_tests.chaos.drive import Story

PLANNING = 2
"""A count, and the boundaries of the batches."""
FINAL = 1
"""The count at the end."""


def done_twice(story: Story) -> list[str]:
    """Whether more batches were fetched again than were in flight when the runs were killed."""
    plan = story.plan
    asked = sum(1 for entry in story.statistics["log"] if entry["kind"] == "suiteql")
    again = asked - plan.batches - PLANNING - FINAL
    # Each slot has one request under way, and as many fetched batches as writers and the queue before them may hold.
    in_flight = story.killed * (plan.slots + 3)
    story.log.append(f"{again} batches were fetched twice, {story.killed} runs killed")
    return [] if again <= in_flight else [f"{again} batches were fetched twice after {story.killed} kills"]
