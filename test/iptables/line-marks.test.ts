import { describe, expect, test } from "vitest";
import { readMark, withMark } from "../../src/iptables/line-marks.ts";

const MARK = "-m comment --comment line-8";

describe("a rule gets its mark as its first match", () => {
  test.each([
    ["-A FORWARD -j ACCEPT", `-A FORWARD ${MARK} -j ACCEPT`],
    ["-A FORWARD", `-A FORWARD ${MARK}`],
    ["-I FORWARD 3 ! -i eth0 -j DROP", `-I FORWARD 3 ${MARK} ! -i eth0 -j DROP`],
    ["-I FORWARD -j DROP", `-I FORWARD ${MARK} -j DROP`],
    ["[3:4] -A INPUT -p tcp --dport 22", `-A INPUT ${MARK} -p tcp --dport 22`],
    ['-A "my chain" -j DROP', `-A "my chain" ${MARK} -j DROP`],
    ["--append INPUT --jump DROP", `-A INPUT ${MARK} -j DROP`],
    ["--insert=INPUT 2 -j DROP", `-I INPUT 2 ${MARK} -j DROP`],
    ["-AINPUT -j DROP", `-A INPUT ${MARK} -j DROP`],
    ["-p tcp -A INPUT -j DROP", `-A INPUT ${MARK} -p tcp -j DROP`],
    ["-A\tINPUT  -j DROP", `-A INPUT ${MARK} -j DROP`],
  ])("%s", (line, marked) => expect(withMark(line, 7)).toBe(marked));

  test.each([":INPUT DROP [0:0]", "*filter", "COMMIT", "-N OWN", "-D INPUT -j DROP", "# -A INPUT", ""])(
    "not %s",
    (line) => expect(withMark(line, 7)).toBe(line),
  );
});

describe("and it is read from what iptables prints", () => {
  test.each([
    [`-A FORWARD -p tcp ${MARK} -m tcp --dport 22 -j ACCEPT`, "-A FORWARD -p tcp -m tcp --dport 22 -j ACCEPT", 7],
    // As iptables before 1.8.
    ['-A FORWARD -m comment --comment "line-8"', "-A FORWARD", 7],
    // A rule's own comment is behind it, and no other text of its own is before it.
    [`-A X ${MARK} -m comment --comment line-9 -j DROP`, "-A X -m comment --comment line-9 -j DROP", 7],
    [
      `-A X ${MARK} -m comment --comment "a -m comment --comment line-9 b" -j LOG`,
      '-A X -m comment --comment "a -m comment --comment line-9 b" -j LOG',
      7,
    ],
    ["-A X -j DROP", "-A X -j DROP", -1],
    ["-A X -m comment --comment line-8a -j DROP", "-A X -m comment --comment line-8a -j DROP", -1],
  ])("%s", (printed, text, at) => expect(readMark(printed)).toEqual({ text, at }));
});
