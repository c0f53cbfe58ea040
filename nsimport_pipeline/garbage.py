"""How seldom our processes look for garbage.

Belongs here: the two settings, and why. They are for what begins a process: a command, the code location. Does not
belong here: anything else about memory.
"""

import gc


def look_seldom() -> None:
    """From now on look for garbage after 20,000 new objects, not after Python's 700.

    Loading Dagster, and then tenants, makes objects by the million, nearly all of which stay; what batches leave behind
    is freed by its reference counts. Looking took a fifth of the time that loading did.
    """
    gc.set_threshold(20_000)


def keep() -> None:
    """Never look again through what there is now, not even when the process ends: a third of a short one's time."""
    gc.freeze()
