"""Starts the server with the demo agent: `python3 .ci/demo.py [options of unpause demo]`.

Makes its virtual environment first where that is missing or out of date.
"""

import os
import sys

from bootstrap import EXTRAS, ensure_environment, program

if __name__ == "__main__":
    unpause = str(program(ensure_environment("demo", EXTRAS["demo"]), "unpause"))
    os.execv(unpause, [unpause, "demo", *sys.argv[1:]])
