"""The documents that were there before the recorded run, and that it did not change, can be read."""

import os

from tinydb import TinyDB

from ask import serve

DOCUMENTS = 20


def check(directory, _acks):
    """Fails for a database that does not open, or that has lost what was in it."""
    with TinyDB(os.path.join(directory, "db.json")) as database:
        there = {document["number"]: document["text"] for document in database.all()}
    for number in range(DOCUMENTS):
        assert number in there, f"document {number} of an earlier run is gone"
        assert number == 3 or there[number] == "x" * 60, f"document {number} has another text"


serve(check)
