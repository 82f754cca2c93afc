"""Run lines of wrong code, each in a forked process; started by test_misuse.py.

Reads a JSON list of lines from standard input and writes a list of [kind, message]: kind is the
exception's class, "accepted", or "signal N".
"""

from __future__ import annotations

import json
import os
import sys

PRELUDE = """
import copy, math, pathlib, tempfile
import numpy as np
import torch
from torch import tensor
import hypergraph
from hypergraph import *
from hypergraph.incidence import *
inf, nan = math.inf, math.nan
index = tensor([[0, 1, 1, 2], [0, 0, 1, 1]])
h = Hypergraph(index, 4, 3)
x = torch.randn(4, 5)
y = torch.randn(3, 5)
table = NeighborTable(tensor([[0, 1], [1, 2]]), 4)
batched = NeighborTable(tensor([[[0, 1], [1, 2]], [[3, 1], [1, 2]]]), 4)
"""


def run(line: str, names: dict[str, object]) -> tuple[str, str]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            exec(line, dict(names))
            answer = ["accepted", ""]
        except BaseException as error:  # whatever it is, it is reported
            answer = [type(error).__name__, str(error)]
        with os.fdopen(writing, "w") as pipe:
            pipe.write(json.dumps(answer))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) or not text:
        return f"signal {os.WTERMSIG(status)}", ""
    kind, message = json.loads(text)
    return kind, message


def main() -> None:
    import torch

    torch.set_num_threads(1)  # a forked process must not wait for threads it does not have
    names: dict[str, object] = {}
    exec(PRELUDE, names)
    json.dump([run(line, names) for line in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main()
