"""TinyDB 4.9.0: one document is updated, and one is added, in a database that an earlier run left.

The README of 4.9.0 says nothing of crashes, so nothing is acknowledged here. The documents
of the first run were written, synced (`JSONStorage.write` calls fsync) and closed before the recording.
"""

import os
import sys

from tinydb import TinyDB, where

DOCUMENTS = 20

path = os.path.join(sys.argv[2], "db.json")
database = TinyDB(path)
if sys.argv[1] == "prepare":
    database.insert_multiple({"number": n, "text": "x" * 60} for n in range(DOCUMENTS))
else:
    database.update({"text": "y" * 60}, where("number") == 3)
    database.insert({"number": DOCUMENTS, "text": "z" * 60})
database.close()
