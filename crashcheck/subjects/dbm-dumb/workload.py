"""dbm.dumb of Python's library: values are stored and synced, one by one.

An acknowledgement follows `dumbdbm.sync()`: "Synchronize the on-disk directory and data files." (the
Python Library Reference, dbm.dumb).
"""

import dbm.dumb
import os
import sys

path = os.path.join(sys.argv[2], "db")
database = dbm.dumb.open(path)
if sys.argv[1] == "prepare":
    for number in range(10):
        database[f"old-{number}"] = f"value {number}"
    database.sync()
else:
    for number in range(3):
        database[f"new-{number}"] = f"value {number}"
        database.sync()
        print(f"durable-ack {number}", flush=True)
database.close()
