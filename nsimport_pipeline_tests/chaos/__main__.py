"""``python -m nsimport_pipeline_tests.chaos --seeds 1-200``: break imports on purpose and see that nothing is lost.

``--kills N`` kills a run of each of N imports besides, at a random moment, and counts what was done twice. ``--show``
only prints the schedules. Exit code 1 if anything is wrong; each import that failed is told in full.
"""

import sys

if __name__ == "__main__":
    # Not at the top: each command that a seed calls is a process forked from this one's, and imports this module.
    from nsimport_pipeline_tests.chaos.command import main

    sys.exit(main(__doc__ or ""))
