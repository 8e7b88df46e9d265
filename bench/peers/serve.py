"""Times steps when asked to, so that steps of two programs can be timed alternately.

Reads one JSON object a line from standard input ({"steps": n} or {"quit": true}) and answers {"ms": [...]}.
"""

import json
import resource
import sys
import time

import torch


def serve(step):
    step(), step()
    n = 2048
    a, b = torch.randn(n, n), torch.randn(n, n)
    best = min(timed(lambda: torch.mm(a, b)) for _ in range(5))
    print(json.dumps({"ready": True, "torch": torch.__version__, "mm": 2 * n**3 / best / 1e6}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("quit"):
            break
        times = [timed(step) for _ in range(request["steps"])]
        print(json.dumps({"ms": times, "peakMb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), flush=True)


def timed(run):
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1000
