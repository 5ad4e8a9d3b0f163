# Runs commands in turn and says how long each took. The plan comes on stdin, as JSON; the answer goes to stdout:
#
#   [{"name": …, "argv": […], "stdin": path or null, "env": {…}, "before": shell, "rounds": n, "expect": text}, …]
#   {name: [{"seconds": wall, "cpu": user + system, "kilobytes": peak}, …]}
#
# In each round every command has its turn, so that what slows the machine slows all of them. `before` is not measured.
# A command that fails, or does not print what is expected, ends the run: its time would mean nothing. The peak of memory
# and the CPU are those of the command and of all that it waited for (wait4(2)).
import json
import os
import subprocess
import sys
import tempfile
import time


def run(command):
    if command.get("before"):
        subprocess.run(["sh", "-c", command["before"]], check=True, stdout=subprocess.DEVNULL)
    env = {**os.environ, **command.get("env", {})}
    with tempfile.TemporaryFile() as out, open(command.get("stdin") or os.devnull) as given:
        start = time.monotonic()
        process = subprocess.Popen(command["argv"], stdin=given, stdout=out, stderr=subprocess.STDOUT, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said = out.read().decode(errors="replace")
    if process.returncode != 0 or command.get("expect", "") not in said:
        sys.exit(f"{command['name']}: {command['argv']} ended with {process.returncode}: {said[:2000]}")
    return {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime, "kilobytes": usage.ru_maxrss}


plan = json.load(sys.stdin)
samples = {command["name"]: [] for command in plan}
for turn in range(max(command["rounds"] for command in plan)):
    for command in plan:
        if turn < command["rounds"]:
            samples[command["name"]].append(run(command))
json.dump(samples, sys.stdout)
