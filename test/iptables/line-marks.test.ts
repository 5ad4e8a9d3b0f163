import { describe, expect, test } from "vitest";
import { markKindOf, readMark, withMark } from "../../src/iptables/line-marks.ts";

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
  ])("%s", (line, marked) => expect(withMark(line, 7, "comment")).toBe(marked));

  test.each([":INPUT DROP [0:0]", "*filter", "COMMIT", "-N OWN", "-D INPUT -j DROP", "# -A INPUT", ""])(
    "not %s",
    (line) => expect(withMark(line, 7, "comment")).toBe(line),
  );
});

describe("where a line deletes a rule by its words, the mark is a counter", () => {
  test.each([
    ["-D INPUT -i lo -j ACCEPT", "counter"],
    ["--delete INPUT -j ACCEPT", "counter"],
    ["-D INPUT 1", "comment"],
    ["-A INPUT -m comment --comment -D -j ACCEPT", "comment"],
    ["-A INPUT -j ACCEPT", "comment"],
  ])("%s", (line, kind) => expect(markKindOf(["*filter", line])).toBe(kind));

  test.each([
    ["-A FORWARD -j ACCEPT", "[8:0] -A FORWARD -j ACCEPT"],
    ["[3:4] -I FORWARD 3 -j DROP", "[8:0] -I FORWARD 3 -j DROP"],
    ["--append INPUT --jump DROP", "[8:0] --append INPUT --jump DROP"],
    ["-A INPUT -c 3 4 -p tcp", "[8:0] -A INPUT -p tcp"],
    ["-A INPUT -p tcp --set-counters 3,4", "[8:0] -A INPUT -p tcp"],
    ["-D INPUT -i lo -j ACCEPT", "-D INPUT -i lo -j ACCEPT"],
    [":INPUT DROP [0:0]", ":INPUT DROP [0:0]"],
  ])("%s", (line, marked) => expect(withMark(line, 7, "counter")).toBe(marked));
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
    ["[8:0] -A X -m comment --comment line-9 -j DROP", "-A X -m comment --comment line-9 -j DROP", 7],
    ["[0:0] -A X -j DROP", "-A X -j DROP", -1],
    ["-A X -j DROP", "-A X -j DROP", -1],
    ["-A X -m comment --comment line-8a -j DROP", "-A X -m comment --comment line-8a -j DROP", -1],
  ])("%s", (printed, text, at) => expect(readMark(printed)).toEqual({ text, at }));
});
