"""What stands beside every figure: machine, commit, command."""

import os
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The instructions that choose between kernels.
FLAGS = "avx2 fma f16c avx512f avx512bw avx512_vnni avx512_vpopcntdq amx_int8 asimd asimddp".split()


def describe(command="make bench"):
    """The machine now, the commit, and whether files of the repository differ from it."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", "src", "crates", "bench", "sql", "Cargo.lock")
    return {
        "cpu": _cpu("model name") or platform.machine(),
        "flags": [flag for flag in FLAGS if flag in (_cpu("flags") or _cpu("Features") or "").split()],
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "commit": (_git("rev-parse", "--short", "HEAD") or "unknown") + ("+changes" if changed else ""),
        "command": command,
    }


def _cpu(field):
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.split("\t")[0] == field), None)


def _git(*arguments):
    # The clone may belong to another user than the one who measures, and git then refuses.
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", ROOT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""
