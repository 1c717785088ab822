"""The file is one whole version, and none older than the last acknowledged."""

import os

from ask import serve


def check(directory, acks):
    """Fails for a file that is missing after an acknowledgement, mixed, or old."""
    path = os.path.join(directory, "file")
    if not os.path.exists(path):
        assert not acks, f"the file is gone, version {acks[-1]} was acknowledged"
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    versions = [n for n in range(5) if text == f"version {n}\n" * 200]
    assert versions, "the file is no whole version"
    assert versions[0] >= len(acks) - 1, "the file is older than the last acknowledged version"


serve(check)
