"""Starts the server with the demo agent: `python3 .ci/demo.py [options of unpause demo]`.

Makes its virtual environment first where that is missing or out of date.
"""

import os
import sys

from bootstrap import EXTRAS, ensure_environment, program

if __name__ == "__main__":
    unpause = str(program(ensure_environment("demo", EXTRAS["demo"]), "unpause"))
    # The second start need not compile what the first one has compiled.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.execv(unpause, [unpause, "demo", *sys.argv[1:]])
