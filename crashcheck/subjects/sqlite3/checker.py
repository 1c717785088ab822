"""The database is whole, holds whole transactions in order, and each that is durable."""

import os
import sqlite3

from ask import serve


def check(directory, acks):
    """Fails for a database that is damaged, or lacks an acknowledged transaction."""
    database = sqlite3.connect(os.path.join(directory, "db"), isolation_level=None)
    try:
        verdict = database.execute("PRAGMA integrity_check").fetchone()[0]
        assert verdict == "ok", f"integrity_check: {verdict}"
        tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        numbers = []
        if tables:
            numbers = [n for (n,) in database.execute("SELECT number FROM rows ORDER BY number")]
    finally:
        database.close()
    assert numbers == list(range(len(numbers))), "the rows have a gap"
    assert len(numbers) % 2 == 0, "half of a transaction is there"
    durable = 2 * len(acks)
    assert len(numbers) >= durable, f"{len(numbers)} rows are there, {durable} were acknowledged"


serve(check)
