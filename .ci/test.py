"""Runs the tests: `python3 .ci/test.py [arguments of pytest]`; without arguments all of them, on every core.

With UNPAUSE_FULL_TESTS=1 their long forms run as well, and without arguments the coverage of the code is measured and
must not fall: that doubles the time, so it is not done for every change. The last lines say what is skipped even then.

Makes its virtual environment first where that is missing or out of date. Paths count from the project's top
folder.
"""

import os
import sys

from bootstrap import EXTRAS, ROOT, ensure_environment, program

if __name__ == "__main__":
    pytest = str(program(ensure_environment("test", EXTRAS["test"]), "pytest"))
    os.chdir(ROOT)
    # Kept bytecode saves each of the many processes that the tests start seconds of compiling.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # One worker more than there are cores, since many tests wait; whoever has nothing left takes from the others.
    everything = ["-n", str((os.cpu_count() or 1) + 1), "--dist", "worksteal"]
    at_night = ["--cov", "--cov-report=term", "-rs"] if os.environ.get("UNPAUSE_FULL_TESTS") == "1" else []
    os.execv(pytest, [pytest, *(sys.argv[1:] or [*everything, *at_night])])
