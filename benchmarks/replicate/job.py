"""The process that does one job's commands one after another: what a start costs, it costs once.

`python -m benchmarks.replicate.job COMMANDS`, a JSON list of command lines of recipes, each as typed without `python`.
Ends with the code of the first that does not end well.
"""

import json
import runpy
import sys


def main(commands: list[list[str]]) -> None:
    for command in commands:
        sys.argv = list(command)
        try:
            runpy.run_path(command[0], run_name="__main__")
        except SystemExit as end:
            if end.code:
                raise


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
