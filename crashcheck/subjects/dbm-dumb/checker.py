"""What was there before the recorded run, and each value that was synced, is there and is right."""

import dbm.dumb
import os

from ask import serve


def check(directory, acks):
    """Fails for a database that does not open, or that lacks a value."""
    keys = [f"old-{number}" for number in range(10)] + [f"new-{number}" for number in acks]
    database = dbm.dumb.open(os.path.join(directory, "db"), "r")
    for key in keys:
        assert key.encode() in database, f"{key} is gone"
        value = f"value {key.split('-')[1]}".encode()
        assert database[key] == value, f"{key} has another value"


serve(check)
