"""What the Python checkers share: how crashcheck asks about a state, and how it is answered.

A checker is a function of the directory and the acknowledgements that were seen before the crash. It
raises an exception for a state that must not be. With --persistent it is asked again and again, one JSON
object a line; without, once, by the environment.
"""

import json
import os
import sys


def reason(failure):
    """One line for an exception; of the library's own the type alone, as its text differs from state to state."""
    return str(failure) if isinstance(failure, AssertionError) else f"it cannot be read: {type(failure).__name__}"


def serve(check):
    """Answers with `check`."""
    if "--persistent" not in sys.argv:
        with open(os.environ["CRASHCHECK_ACKS"], encoding="utf-8") as file:
            acks = file.read().splitlines()
        try:
            check(os.environ["CRASHCHECK_DIR"], acks)
        except Exception as failure:
            sys.exit(reason(failure))
        return
    for line in sys.stdin:
        asked = json.loads(line)
        answer = {"ok": True}
        try:
            check(asked["dir"], asked["acks"])
        except Exception as failure:
            answer = {"ok": False, "reason": reason(failure)}
        print(json.dumps(answer), flush=True)
