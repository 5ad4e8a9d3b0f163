# A client in docker's place: `events` prints what is in /root/events again and again, as many lines as /root/replay says, and writes how
# much memory its parent, the watcher, holds meanwhile: into /root/held, one "LINES KILOBYTES" for each hundred. All else is docker's.
import os
import sys
import time

if sys.argv[1] != "events":
    os.execv("/usr/bin/docker", ["docker", *sys.argv[1:]])
events = open("/root/events", "rb").read().splitlines(keepends=True)
total = int(open("/root/replay").read())
watcher = os.getppid()


def held():
    with open(f"/proc/{watcher}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


# An event each millisecond, ten at a time.
with open("/root/held", "w") as told:
    for count in range(0, total, 10):
        sys.stdout.buffer.writelines(events[(count + at) % len(events)] for at in range(10))
        sys.stdout.buffer.flush()
        time.sleep(0.01)
        if count % 100 == 0:
            told.write(f"{count} {held()}\n")
with open("/root/replayed", "w"):
    pass
time.sleep(1000000)
