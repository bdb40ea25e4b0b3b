"""One session of PostgreSQL through psql, its statements' times, and loading arrays by binary COPY."""

import json
import struct
import subprocess
from pathlib import Path

import numpy as np

PSQL = Path(__file__).resolve().parents[1] / "scripts" / "psql.sh"
END = "@@ end"
REAL_OID = 700


class Session:
    """A session that stays open, without parallel workers and without JIT."""

    def __init__(self, cluster):
        self.command = [str(PSQL), cluster, "--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]
        self.psql = subprocess.Popen(
            [*self.command, "--set=ON_ERROR_STOP=1", "--file=-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.run("SET max_parallel_workers_per_gather = 0; SET jit = off; SET client_min_messages = warning")
        self.pid = int(self.value("SELECT pg_backend_pid()"))
        self.schedule = Path(f"/proc/{self.pid}/schedstat")

    def run(self, sql):
        """Runs statements; returns the lines of output. psql ends at the first error, having printed it."""
        self.psql.stdin.write(f"{sql};\n\\echo {END}\n")
        self.psql.stdin.flush()
        lines = []
        while (line := self.psql.stdout.readline()) != f"{END}\n":
            if not line:
                raise SystemExit(f"psql ended at: {sql}")
            lines.append(line.rstrip("\n"))
        return lines

    def value(self, sql):
        """The one value that a query gives, as text."""
        return self.run(sql)[0]

    def seconds(self, sql):
        """How long a query takes in the server: (its backend's time on a processor, time on the clock).

        The first is that of the clock on an idle machine and stays the same on a busy one.
        """
        before = self._on_processor()
        plan = json.loads("\n".join(self.run(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT json) {sql}")))
        clock = plan[0]["Execution Time"] / 1e3
        after = self._on_processor()
        return (after - before if before is not None else clock), clock

    def _on_processor(self):
        try:
            return int(self.schedule.read_text().split()[0]) / 1e9
        except OSError:
            return None

    def load(self, table, arrays):
        """Appends rows (id, real[][]) to a table; ids count from 0."""
        self._copy(table, map(_array, arrays))

    def load_multivectors(self, table, arrays):
        """The same with multivectors, of element type f16 where the arrays are float16, else f32."""
        self._copy(table, map(_multivector, arrays))

    def _copy(self, table, fields):
        copy = subprocess.Popen(
            [*self.command, f"--command=COPY {table} FROM STDIN (FORMAT binary)"], stdin=subprocess.PIPE
        )
        copy.stdin.write(b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0))
        for row, field in enumerate(fields):
            copy.stdin.write(struct.pack(">hii", 2, 4, row) + struct.pack(">i", len(field)) + field)
        copy.stdin.write(struct.pack(">h", -1))
        copy.stdin.close()
        if copy.wait():
            raise SystemExit(f"loading {table} failed")

    def close(self):
        """Ends the session."""
        self.psql.stdin.close()
        self.psql.wait()


def _array(array):
    """real[] as COPY wants it: axes, then every element with its length before it."""
    tokens, dim = array.shape
    elements = np.empty((tokens * dim, 2), ">i4")
    elements[:, 0] = 4
    elements[:, 1] = array.reshape(-1).astype(">f4").view(">i4")
    return struct.pack(">iiiiiii", 2, 0, REAL_OID, tokens, 1, dim, 1) + elements.tobytes()


def _multivector(array):
    """multivector as COPY wants it: version, element type (f16 for float16, else f32), dim, tokens, components."""
    tokens, dim = array.shape
    element, stored = (2, ">f2") if array.dtype == np.float16 else (1, ">f4")
    return struct.pack(">BBHii", 1, element, 0, dim, tokens) + array.astype(stored).tobytes()
