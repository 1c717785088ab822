"""atomicwrites 1.4.1: a file is replaced again and again.

An acknowledgement follows the end of each `with`. The README of 1.4.1 says under "fsync": "On POSIX,
fsync is invoked on the temporary file after it is written (to flush file content and metadata) and on the
parent directory after the file is moved (to flush filename)."
"""

import os
import sys

from atomicwrites import atomic_write

for version in range(5):
    with atomic_write(os.path.join(sys.argv[1], "file"), overwrite=True) as file:
        file.write(f"version {version}\n" * 200)
    print(f"durable-ack {version}", flush=True)
