"""SQLite through Python's sqlite3 module, synchronous=FULL: transactions of two rows.

In WAL mode FULL syncs the log after each transaction, so a commit that returned is durable. In rollback
mode (DELETE) it is durable once the directory of the deleted journal is synced: FULL leaves that to the
next transaction, EXTRA does it at once (SQLite's documentation, PRAGMA synchronous). So the
acknowledgement of a transaction is written when the next one has been committed.
"""

import os
import sqlite3
import sys

TRANSACTIONS = 4

mode, directory = sys.argv[1:3]
database = sqlite3.connect(os.path.join(directory, "db"), isolation_level=None)
(set_to,) = database.execute(f"PRAGMA journal_mode={mode}").fetchone()
assert set_to == mode, f"journal_mode is {set_to}"
database.execute("PRAGMA synchronous=FULL")
if mode == "wal":
    # The log's index stays in memory: without other processes it needs no shared file.
    database.execute("PRAGMA locking_mode=EXCLUSIVE")
database.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, text TEXT)")
for transaction in range(TRANSACTIONS):
    database.execute("BEGIN IMMEDIATE")
    for half in range(2):
        row = (2 * transaction + half, f"row {transaction} {half} " + "x" * 700)
        database.execute("INSERT INTO rows VALUES (?, ?)", row)
    database.execute("COMMIT")
    durable = transaction if mode == "wal" else transaction - 1
    if durable >= 0:
        print(f"durable-ack {durable}", flush=True)
database.close()
