"""ONNX Runtime alone: images per second of the model on one core, without a server.

`python -m benchmarks.compare.alone SECONDS WARM_UP_SECONDS` prints the figure.
"""

import subprocess
import sys
import time

from .bodies import ROOT, mnist_images, single_thread_session
from .cores import Cores
from .errors import LoadError

BATCH = 64


def images_per_s(cores: Cores, seconds: float, warm_up_s: float) -> float:
    """Measures in a separate process on the servers' core: one thread, batches of 64 real images.

    Raises:
        LoadError: the process failed.
    """
    command = [*cores.pin_server(), sys.executable, "-m", "benchmarks.compare.alone", str(seconds), str(warm_up_s)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise LoadError(f"ONNX Runtime alone failed:\n{done.stderr}")
    return float(done.stdout)


def _measure(seconds: float) -> float:
    session = single_thread_session()
    images = mnist_images()[:BATCH]
    runs, start_s = 0, time.perf_counter()
    while (elapsed_s := time.perf_counter() - start_s) < seconds:
        session.run(None, {"image": images})
        runs += 1
    return runs * BATCH / elapsed_s


if __name__ == "__main__":
    _measure(float(sys.argv[2]))
    print(_measure(float(sys.argv[1])))
