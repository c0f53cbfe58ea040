"""``python -m nsimport_pipeline_tests.life --days 7 --seed 1``: a company's week, an import every quarter of an hour.

Records come, change and go, faults hit the imports; at every quiet moment all tables are compared with NetSuite's,
value by value. Exit code 1 if anything differs.
"""

import sys

from nsimport_pipeline_tests.life.command import main

if __name__ == "__main__":
    sys.exit(main(__doc__ or ""))
