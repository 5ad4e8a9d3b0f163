// The record of a change, as the journal gets it.

import { describe, expect, test } from "vitest";
import type { Result } from "../../src/generated/result.ts";
import { isChange, readCaller, recordText } from "../../src/systemd/journal.ts";

const CALLER = { pid: 42, command: "/usr/bin/python3 playbook.py", unit: "web.service", self: "43" };
const DONE: Result = {
  changed: true,
  state: "present",
  msg: "published: web",
  comment: "published: web",
  containers: [
    { name: "web", changed: true, reasons: ["file"] },
    { name: "db", changed: false, reasons: [] },
  ],
  files: [
    { path: "/etc/iptables.d/11-docker-container_web", change: "created" },
    { path: "/etc/iptables.d/11-docker-container_db", change: "unchanged" },
  ],
  reloaded: ["iptables.service"],
  warnings: [],
};

function fieldsOf(text: string): Record<string, string> {
  expect(text).toMatch(/^([A-Z][A-Z_]*=.*\n)+$/);
  return Object.fromEntries(
    text
      .trimEnd()
      .split("\n")
      .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
  );
}

describe("a record", () => {
  test("says what was done, to what, for whom", () => {
    expect(fieldsOf(recordText(DONE, CALLER, []))).toEqual({
      MESSAGE: "published: web (called by python3)",
      PRIORITY: "6",
      SYSLOG_IDENTIFIER: "docker_iptables",
      OBJECT_PID: "43",
      DOCKER_IPTABLES_RESULT: "done",
      DOCKER_IPTABLES_STATE: "present",
      DOCKER_IPTABLES_CONTAINERS: "web",
      DOCKER_IPTABLES_FILES: "/etc/iptables.d/11-docker-container_web",
      DOCKER_IPTABLES_RELOADED: "iptables.service",
      DOCKER_IPTABLES_CALLER: "/usr/bin/python3 playbook.py",
      DOCKER_IPTABLES_CALLER_PID: "42",
      DOCKER_IPTABLES_CALLER_UNIT: "web.service",
    });
  });

  test("of the watcher has the events for its reasons", () => {
    const fields = fieldsOf(recordText(DONE, CALLER, ["web start", "db die"]));
    expect(fields["MESSAGE"]).toBe("published: web (web start, db die)");
    expect(fields["DOCKER_IPTABLES_REASONS"]).toBe("web start, db die");
  });

  test("of a failure that was undone says so, as an error", () => {
    const failed: Result = {
      ...{ changed: false, failed: true, msg: "it broke", comment: "it broke", warnings: [] },
      ...{ error: { code: "reload_failed" }, rolled_back: ["/a", "/b"] },
    };
    expect(fieldsOf(recordText(failed, { pid: 1, command: "", unit: "", self: "" }, []))).toEqual({
      MESSAGE: "it broke [reload_failed]",
      PRIORITY: "3",
      SYSLOG_IDENTIFIER: "docker_iptables",
      DOCKER_IPTABLES_RESULT: "reload_failed",
      DOCKER_IPTABLES_ROLLED_BACK: "/a; /b",
      DOCKER_IPTABLES_CALLER_PID: "1",
    });
  });

  test("cannot be given a field by what is in a value", () => {
    const fields = fieldsOf(
      recordText({ ...DONE, msg: "a\nPRIORITY=0\n\0b" }, { ...CALLER, command: "x\n_UID=0" }, ["c\nMESSAGE=d"]),
    );
    expect(fields["PRIORITY"]).toBe("6");
    expect(fields["MESSAGE"]).toBe(String.raw`a PRIORITY=0 \x00b (c MESSAGE=d)`);
    expect(fields).not.toHaveProperty("_UID");
  });
});

test.each([
  [DONE, true],
  [{ ...DONE, changed: false }, false],
  [{ ...DONE, changed: false, failed: true, rolled_back: [] }, true],
] as const)("worth a record (%#)", (result, worth) => {
  expect(isChange(result as Result)).toBe(worth);
});

describe("the caller", () => {
  test("is read from /proc", async () => {
    const { pid, command } = await readCaller(process.pid);
    expect(pid).toBe(process.pid);
    expect(command).toContain("node");
  });

  test("that is gone is a number", async () => {
    // Beyond the largest that a kernel gives (proc(5), pid_max).
    expect(await readCaller(2 ** 22 + 1)).toMatchObject({ pid: 2 ** 22 + 1, command: "" });
  });
});
