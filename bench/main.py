"""Measures everything, prints one table and writes bench.json. `bench/run` starts it in an environment that is set up."""

import argparse
import json
import subprocess
from pathlib import Path

import peer_numpy
import recall
import sql_level
from bars import judge
from database import Session
from documents import SHAPES, scifact3k
from machine import describe
from report import report

KERNEL_ROUNDS = 60
NUMPY_SAMPLES = 40


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", required=True)
    parser.add_argument("--kernels", required=True, type=Path, help="the example `bench` of crates/maxsim, built")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    results = {"machine": describe(), "rounds": options.rounds}
    collection = scifact3k()
    results["vectors"] = "scifact3k" if collection else "generated"
    # numpy before and after the kernels, so that what else the machine does meanwhile meets both.
    before = peer_numpy.measure(NUMPY_SAMPLES)
    results["kernels"] = _kernels(options)
    after = peer_numpy.measure(NUMPY_SAMPLES)
    results["numpy_us"] = {
        shape.name: peer_numpy.lower_decile_us(before[shape.name] + after[shape.name]) for shape in SHAPES
    }
    session = Session(options.cluster)
    session.run("CREATE EXTENSION infinity_embed")
    results["sql"] = sql_level.measure(session, collection, options.rounds)
    results["recall"] = recall.measure(session, collection)
    session.close()
    results["bars"] = judge(results)
    file = options.out / "bench.json"
    file.write_text(json.dumps(results, indent=2) + "\n")
    print(report(results))
    print(f"\nwritten: {file}")


def _kernels(options):
    file = options.out / "kernels.json"
    command = [options.kernels, "--rounds", str(KERNEL_ROUNDS), "--json", file]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads(file.read_text())


if __name__ == "__main__":
    main()
