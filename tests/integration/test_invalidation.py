"""Everything at once that makes the kernel be told something: the mount must not lock up with itself."""
import multiprocessing
import os
import random
import time

from conftest import wait_for


def churn(mnt, seed, until):
    """Renames, listings, reads, rewrites and removals in four directories; what another took away meanwhile is no error."""
    rng = random.Random(seed)
    while time.monotonic() < until:
        a, b = (mnt / f"d{rng.randrange(4)}" / f"f{rng.randrange(8)}" for _ in range(2))
        try:
            what = rng.randrange(6)
            if what == 0:
                os.rename(a, b)
            elif what == 1:
                [e.stat() for e in os.scandir(a.parent)]
            elif what == 2:
                a.read_bytes()
            elif what == 3:
                a.write_bytes(rng.randbytes(3000))
            elif what == 4:
                os.rename(a.parent, mnt / f"d{rng.randrange(4)}.x")
            else:
                for d in mnt.glob("*.x"):
                    os.rename(d, d.with_suffix(""))
        except OSError:
            pass


def test_renames_listings_and_changes_of_another_device_do_not_lock_up(make_client):
    clients = [make_client(f"c{i}").mount() for i in range(2)]
    for d in range(4):
        (clients[0].mnt / f"d{d}").mkdir()
    clients[0].sync()
    wait_for(lambda: len(os.listdir(clients[1].mnt)) == 4)
    until = time.monotonic() + float(os.environ.get("CACHET_TEST_SECONDS", "4"))
    workers = [multiprocessing.Process(target=churn, args=(c.mnt, 10 * i + k, until), daemon=True)
               for i, c in enumerate(clients) for k in range(3)]
    for w in workers:
        w.start()
    try:
        for w in workers:
            w.join(90)
            assert w.exitcode == 0, "hangs in the mount"
        for c in clients:
            c.run("sync", "--timeout", "60", check=False)
            (c.mnt / "after").write_bytes(b"alive")
            assert (c.mnt / "after").read_bytes() == b"alive"
            c.umount()
    finally:
        for w in workers:
            w.kill()
