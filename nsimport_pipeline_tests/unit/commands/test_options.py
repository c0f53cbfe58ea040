"""What every command prints through."""

import subprocess
import sys

SCRIPT = """
import sys
from nsimport_pipeline.commands.options import console, tell
for number in range(20_000):
    tell("a line")
    console.print("another")
sys.stderr.write("done")
"""


def test_a_reader_who_has_heard_enough_stops_nothing_that_is_under_way() -> None:
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"a line\n"
        process.stdout.close()
        assert process.stderr.read() == b"done"
    assert process.returncode == 0
