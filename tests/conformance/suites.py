"""The suites that scripts/conformance knows, each recognized by its layout; none of them is part of this project.

    suite = suites.of(DIR)
    for test in suite.tests(wanted, skip): outcome = suite.run(test, where)

An outcome has the checks that passed and failed, and whether the test as a whole is good, bad or left out (by its own word, or because it
was not built or makes a file system of its own).
"""
import dataclasses
import fnmatch
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

LIMIT_S = 900


@dataclasses.dataclass
class Outcome:
    name: str
    state: str          # "good", "bad", "out"
    passed: int = 0
    failed: int = 0
    output: str = ""


def run(command, where, env=None, limit=LIMIT_S):
    """(exit code, output) of a command; one that outlives the limit is killed with its children, code 124."""
    with tempfile.TemporaryFile("w+", errors="replace") as out:
        p = subprocess.Popen(command, cwd=where, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL,
                             stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = p.wait(limit)
        except subprocess.TimeoutExpired:
            code = 124
        try:
            os.killpg(p.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        p.wait()
        out.seek(0)
        return code, out.read()


def matching(names, wanted, skip):
    """Names that are asked for (all if none is; a name, a directory or a pattern) and not skipped, in order."""
    def asked(name):
        return not wanted or any(fnmatch.fnmatch(name, w) or name.startswith(w.rstrip("/") + "/") for w in wanted)
    found = [n for n in names if asked(n) and not any(fnmatch.fnmatch(n, s) for s in skip)]
    if not found:
        sys.exit("conformance: no such test")
    return found


class Pjdfstest:
    """Built in place. DIR/tests/**/*.t, run by prove(1) with the mount as working directory."""
    skip = ["chflags/*", "granular/*", "ftruncate/12.t", "truncate/12.t"]

    def __init__(self, root):
        self.base = root / "tests"

    @staticmethod
    def fits(root):
        return (root / "tests").is_dir() and any((root / "tests").rglob("*.t"))

    def tests(self, wanted, skip):
        return matching(sorted(str(t.relative_to(self.base)) for t in self.base.rglob("*.t")), wanted, self.skip + skip)

    def run(self, name, where):
        code, out = run(["prove", "-Q", "--merge", str(self.base / name)], where)
        total = re.search(r"Files=\d+, Tests=(\d+)", out)
        failed = sum(int(n) for n in re.findall(r"Tests: \d+ Failed: (\d+)", out))
        passed = (int(total.group(1)) if total else 0) - failed
        return Outcome(name, "bad" if code else "good", passed, failed, out)


# fsstress with names alone, mostly of directories that are moved.
NAMES = " ".join(f"-f {op}" for op in ("write=0", "dwrite=0", "read=0", "dread=0", "truncate=0", "sync=0", "fsync=0", "fdatasync=0",
                                       "mkdir=8", "rename=12", "rmdir=2", "creat=8"))


class Ltp:
    """`./configure --prefix=DIR`, then `make install` at least in lib, runtest, testcases/lib and what is to be run: DIR/runtest and
    DIR/testcases/bin. A test is SCENARIO/TAG. Left out are commands that were not installed, and tests that ask for a device, because what they
    test is the file system they make there."""
    skip = ["*/read_all_*", "*/proc01", "*/binfmt_misc*", "*/isofs", "*/squashfs01", "*/quota_remount_test01", "*/swapon*", "*/fs_fill"]
    out = 32
    # No scenario of LTP's runs its fsstress.
    own = {**{f"own/fsstress-{seed}": f"fsstress -d $TMPDIR -n 5000 -p 4 -s {seed}" for seed in range(1, 5)},
           **{f"own/names-{n}": f"fsstress -d $TMPDIR -n 4000 -p 2 -s {n} " + NAMES for n in range(1, 5)}}

    def __init__(self, root):
        self.root = root
        self.commands = dict(self.own)
        for scenario in sorted((root / "runtest").iterdir()):
            for line in scenario.read_text(errors="replace").splitlines():
                tag, _, command = line.partition("#")[0].strip().replace("\t", " ").partition(" ")
                if command.strip():
                    self.commands[f"{scenario.name}/{tag}"] = command.strip()

    @staticmethod
    def fits(root):
        return (root / "runtest").is_dir() and (root / "testcases" / "bin").is_dir()

    def installed(self, name):
        words = self.commands[name].replace(";", " ").split()
        return any((self.root / "testcases" / "bin" / w).exists() for w in words)

    def tests(self, wanted, skip):
        return matching([n for n in self.commands if self.installed(n)], wanted, self.skip + skip)

    def run(self, name, where):
        work = pathlib.Path(tempfile.mkdtemp(prefix="ltp-", dir=where))
        work.chmod(0o777)
        seconds = os.environ.get("CONFORMANCE_SECONDS")  # of the tests that run for a time
        command = self.commands[name]
        if seconds:
            command = re.sub(r"-L \d+", f"-L {seconds}", re.sub(r"-i \d+s", f"-i {seconds}s", command))
        code, out = run(["bash", "-c", command], work, {
            "TMPDIR": str(work), "LTPROOT": str(self.root), "LTP_DEV": "/dev/null", "LTP_COLORIZE_OUTPUT": "0",
            "PATH": f"{self.root}/testcases/bin:{os.environ['PATH']}"})
        shutil.rmtree(work, ignore_errors=True)
        passed, failed = (len(re.findall(rf"\b{word}\b", out)) for word in ("TPASS", "TFAIL"))
        if code == self.out or "/dev/null is not a block device" in out or "stat(/dev/null" in out:
            return Outcome(name, "out", output=out)
        return Outcome(name, "bad" if code & ~self.out else "good", passed or (code == 0), failed, out)


class Fsx:
    """xfstests' ltp/fsx alone, built in place: with mappings, holes, copies. 20 seeds of 50,000 operations; with O_DIRECT, synced, with
    operations of up to 1 MiB."""
    skip = []
    ways = {"": [], "-direct": ["-Z", "-R", "-W", "-r", "512", "-w", "512"], "-synced": ["-y", "-N", "5000"],
            "-large": ["-l", "8388608", "-o", "1048576", "-N", "10000"]}

    def __init__(self, root):
        self.program = root / "ltp" / "fsx"
        self.options = {f"fsx{way}-{seed:02}": ["-N", "50000", *options, "-S", str(seed)]
                        for way, options in self.ways.items() for seed in range(1, 4 if way else 21)}

    @staticmethod
    def fits(root):
        return (root / "ltp" / "fsx").is_file()

    def tests(self, wanted, skip):
        return matching(list(self.options), wanted, self.skip + skip)

    def run(self, name, where):
        logs = tempfile.mkdtemp(prefix="fsx-")
        code, out = run([str(self.program), "-q", "-P", logs, *self.options[name], str(where / name)], where)
        shutil.rmtree(logs, ignore_errors=True)
        (where / name).unlink(missing_ok=True)
        return Outcome(name, "bad" if code else "good", not code, bool(code), out)


class Git:
    """A checkout of git that was built. DIR/t/t[0-9]*.sh, each with --root in the mount."""
    skip = ["t9*"]  # subversion, perforce, the web

    def __init__(self, root):
        self.base = root / "t"

    @staticmethod
    def fits(root):
        return (root / "t" / "test-lib.sh").is_file()

    def tests(self, wanted, skip):
        return matching(sorted(t.name for t in self.base.glob("t[0-9]*.sh")), [w + "*" for w in wanted], self.skip + skip)

    def run(self, name, where):
        results = tempfile.mkdtemp(prefix="git-results-")
        code, out = run(["sh", f"./{name}", f"--root={where}"], self.base, {"TEST_OUTPUT_DIRECTORY": results})
        shutil.rmtree(results, ignore_errors=True)
        if re.search(r"^1\.\.0 # SKIP", out, re.M):
            return Outcome(name, "out", output=out)
        failed = [line for line in re.findall(r"^not ok .*", out, re.M) if "# TODO known breakage" not in line]
        return Outcome(name, "bad" if code or failed else "good", len(re.findall(r"^ok ", out, re.M)), len(failed), out)


def of(root):
    for kind in (Git, Ltp, Fsx, Pjdfstest):
        if kind.fits(root):
            return kind(root)
    sys.exit(f"conformance: {root} is no suite that is known here")
