"""Time the library's operations beside everybody else's.

    python -m benchmarks.kernels --smoke      # under a minute, prints only
    python -m benchmarks.kernels --full       # minutes; writes docs/ and the README's table
    python -m benchmarks.kernels --report     # the documents again, from the results file

The operations' tests run first: when one fails, or an answer of ours is wrong, nothing is printed.
An interrupted run continues where it stopped when it is called again.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .machine import ROOT, fingerprint

# A clone that was not installed works as well.
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

_TESTS = (
    "tests/kernels",
    "tests/hypergraph/nn/test_hgnn_conv.py",
    "tests/hypergraph/nn/test_dynamic_hg_conv.py",
    "tests/hypergraph/construct/test_knn.py",
    "tests/hypergraph/construct/test_cross_correlation.py",
)
_SLOW_TESTS = (
    *("compile", "export", "trac", "registration", "opcheck"),  # compilers
    *("process", "thread", "memory"),
    *("grad", "twice"),
)
_BY_NAME_ONLY = ("million",)
_GUARD = 1.5


def main() -> None:
    options = parse()
    environment = child_environment(options.threads)
    work = options.work / f"{options.tier}-{options.device.replace(':', '')}"
    if options.report:
        write_documents(options.device)
        return
    work.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        for path in work.glob("*.json"):
            path.unlink()
    names = chosen(options.only)
    started = time.perf_counter()
    command = "python -m benchmarks.kernels " + shlex.join(sys.argv[1:])
    try:
        test(options.tier, options.device, environment, options.work / "tests.json")
        # One process per group, so that none inherits another's caches; the smoke tier has no time
        # for that.
        for some in [names] if options.tier == "smoke" else [[name] for name in names]:
            measure(some, options, work, environment, command)
    except KeyboardInterrupt:
        print(f"\nInterrupted. What was finished is kept in {work}; the same command goes on.")
        sys.exit(130)
    results = gather(work, names, options.device)
    minutes = (time.perf_counter() - started) / 60
    print(f"\nDone in {minutes:.1f} minutes.\n", flush=True)
    publish(results, options, work)
    if options.guard:
        guard(results, options.device)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tier = parser.add_mutually_exclusive_group()
    tier.add_argument("--smoke", dest="tier", action="store_const", const="smoke")
    tier.add_argument("--full", dest="tier", action="store_const", const="full")
    tier.add_argument(
        "--report", action="store_true", help="rewrite the documents; measure nothing"
    )
    parser.add_argument("--only", nargs="+", metavar="GROUP", help=f"of {', '.join(_names())}")
    parser.add_argument("--device", default="cpu", help="cpu (default), or cuda")
    parser.add_argument("--threads", type=int, default=1, help="more than 1 needs an idle machine")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "kernels")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument(
        "--guard",
        action="store_true",
        help=f"fail where a ratio fell {_GUARD} times below the file",
    )
    options = parser.parse_args()
    options.tier = options.tier or "smoke"
    options.work = options.work.resolve()
    unknown = set(options.only or ()) - set(_names())
    if unknown:
        parser.error(f"--only: no group {', '.join(sorted(unknown))}; there are {_names()}")
    if options.device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            parser.error("--device cuda: torch sees no CUDA device here")
    return options


def _names() -> list[str]:
    from .groups import GROUPS
    from .singles import SINGLES

    return [*GROUPS, *SINGLES]


def chosen(only: list[str] | None) -> list[str]:
    """The groups to run, in the order of the report."""
    return [name for name in _names() if (name in only if only else name not in _BY_NAME_ONLY)]


def child_environment(threads: int) -> dict[str, str]:
    """Where the sources are, and how many threads every library may use."""
    path = [str(ROOT), str(ROOT / "kernels"), str(ROOT / "applications")]
    if "PYTHONPATH" in os.environ:
        path.append(os.environ["PYTHONPATH"])
    count = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    # A compiler's own worker processes would wait beside the clock.
    return {**os.environ, **count, "TORCHINDUCTOR_COMPILE_THREADS": "1"} | {
        "PYTHONPATH": os.pathsep.join(path)
    }


def test(tier: str, device: str, environment: dict[str, str], verdicts: Path) -> None:
    """Run the tests of what is measured; refuse to go on if one fails.

    The smoke tier runs those of the operations only, without the slow kinds; its answers are
    compared with float64 all the same. A verdict holds until the code or the tests change.
    """
    code = f"{fingerprint()} {_state(_TESTS)} {tier} {device}"
    known = json.loads(verdicts.read_text()) if verdicts.exists() else []
    if code in known:
        print("tests: passed before, nothing has changed since", flush=True)
        return
    print("tests of what is measured:", flush=True)
    marks = "not slow and not triton" + ("" if device.startswith("cuda") else " and not gpu")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", marks, "--oracle-count", "100"]
    if tier == "smoke":
        command += [*_TESTS[:1], "-k", " and ".join(f"not {word}" for word in _SLOW_TESTS)]
    else:
        command += _TESTS
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    lines = run.stdout.strip().splitlines() or [run.stderr.strip()]
    if run.returncode != 0:
        print("\n".join(lines[-30:]))
        sys.exit("refused: a test of what is measured fails; a speed is worth nothing if wrong")
    print(f"  {lines[-1].strip('= ')}", flush=True)
    verdicts.parent.mkdir(parents=True, exist_ok=True)
    verdicts.write_text(json.dumps([*known[-20:], code]))


def _state(paths: tuple[str, ...]) -> str:
    """A hash of test files."""
    import hashlib

    digest = hashlib.sha256()
    for name in paths:
        path = ROOT / name
        for one in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(one.read_bytes())
    return digest.hexdigest()[:16]


def measure(
    names: list[str],
    options: argparse.Namespace,
    work: Path,
    environment: dict[str, str],
    command: str,
) -> None:
    worker = [sys.executable, "-m", "benchmarks.kernels.worker", *names, "--tier", options.tier]
    worker += ["--device", options.device, "--threads", str(options.threads)]
    worker += ["--seed", str(options.seed), "--command", command, "--out", str(work)]
    process = subprocess.Popen(worker, cwd=ROOT, env=environment)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()  # it has been interrupted as well, and keeps what it has
        raise
    if code == 130:
        raise KeyboardInterrupt
    if code != 0:
        sys.exit(f"refused: {', '.join(names)} did not finish; nothing is printed")


def gather(work: Path, names: list[str], device: str) -> dict[str, Any]:
    """The files of the groups as one."""
    groups = {}
    for name in names:
        kept = json.loads((work / f"{name}.json").read_text(encoding="utf-8"))
        groups[name] = {"about": kept["about"], "records": kept["records"]}
    return {"device": device, "groups": groups}


def publish(results: dict[str, Any], options: argparse.Namespace, work: Path) -> None:
    """Print the report; after a full run put it into the documents."""
    from .report import results_path, text_report

    (work / "report.md").write_text(text_report(results), encoding="utf-8")
    print(text_report(results))
    print(f"This report: {work / 'report.md'}")
    if options.tier == "smoke":
        return
    path = results_path(options.device)
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"groups": {}}
    merged = {**before["groups"], **results["groups"]}
    ordered = {name: merged[name] for name in _names() if name in merged}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"device": options.device, "groups": ordered}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
    write_documents(options.device)


def write_documents(device: str) -> None:
    """Tables and pictures, from the results file."""
    from .plots import draw
    from .report import DOCUMENT, README, read, results_path, text_report
    from .report import write_documents as write

    path = results_path(device)
    results = read(path)
    if device.startswith("cuda"):
        if results is None:
            sys.exit(f"{path} is not there: run make bench-gpu")
        document = DOCUMENT.with_name("benchmarks-gpu.md")
        document.write_text("# Kernels on a GPU\n\n" + text_report(results), encoding="utf-8")
        pictures = draw(results, prefix="kernels-gpu")
        print(f"Wrote {document} and {', '.join(str(picture) for picture in pictures)}.")
        return
    write(results)
    pictures = [] if results is None else draw(results)
    print(f"Wrote {', '.join(str(one) for one in (DOCUMENT, README, *pictures))}.")


def guard(results: dict[str, Any], device: str) -> None:
    """Fail where a rival has come much closer than it is in the committed results.

    Ratios, not times: they hold on another machine, times do not.
    """
    from .bars import fallen
    from .report import read, results_path

    committed = read(results_path(device))
    if committed is None:
        sys.exit("--guard: there are no committed results to compare with; run --full first")
    lines = fallen(results, committed, _GUARD)
    for line in lines:
        print(line)
    if lines:
        sys.exit(f"{len(lines)} ratio(s) fell more than {_GUARD} times below the committed ones")
    print(f"No ratio fell more than {_GUARD} times below the committed ones.")


if __name__ == "__main__":
    main()
