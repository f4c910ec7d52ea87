"""Counts the blocks of a volume's files about every 10 ms, with the daemon stopped for it, so that all are counted as they
stand at one moment. A process of its own: one that uses the mount may wait for the daemon that it has stopped.

    bound_sampler.py VOLUME        standard input: the daemon's pid, a line each time it is another one
                                   an empty line on standard output after ENOUGH samples
                                   at its end, on standard output: the highest sum, how many samples
"""
import contextlib
import os
import select
import signal
import sys
import time

ENOUGH = 101


def blocks_under(top):
    """Bytes allocated for all regular files below `top`, each counted while it stands."""
    total, stack = 0, [top]
    while stack:
        with contextlib.suppress(FileNotFoundError), os.scandir(stack.pop()) as entries:
            for e in entries:
                with contextlib.suppress(FileNotFoundError):
                    if e.is_dir(follow_symlinks=False):
                        stack.append(e.path)
                    else:
                        total += e.stat(follow_symlinks=False).st_blocks * 512
    return total


def stop(pid):
    """Until no thread runs; what was killed does not run either."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, signal.SIGSTOP)
        for task in os.listdir(f"/proc/{pid}/task"):
            while open(f"/proc/{pid}/task/{task}/stat").read().rpartition(")")[2].split()[0] not in "TZX":
                time.sleep(0.0005)


def main(volume):
    pid, highest, n = int(sys.stdin.readline()), 0, 0
    while True:
        stop(pid)
        try:
            highest = max(highest, blocks_under(volume))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        n += 1
        if n == ENOUGH:
            print(flush=True)
        if select.select([sys.stdin], [], [], 0.008)[0]:
            line = os.read(0, 100).decode().split()
            if not line:
                break
            pid = int(line[-1])
    print(highest, n)


if __name__ == "__main__":
    main(sys.argv[1])
