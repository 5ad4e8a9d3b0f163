// The last line of a terminal while a call takes long.

import { expect, test } from "vitest";
import { StatusLine } from "../../src/cli/status-line.ts";

function lineOf(width = 40, isDumb = false) {
  const written: string[] = [];
  const clock = { now: 0 };
  return {
    written,
    clock,
    line: new StatusLine(
      (text) => written.push(text),
      width,
      () => clock.now,
      isDumb,
    ),
  };
}

const ERASE = "\r\u001b[K";

test("is quiet as long as nothing takes long", () => {
  const { line, written, clock } = lineOf();
  line.event("+0.100 #1 run iptables-save");
  clock.now = 1999;
  line.event("+1.999 #2 run docker inspect web");
  line.clear();
  expect(written).toEqual([]);
});

test("then shows what has begun, and nothing else of --verbose", () => {
  const { line, written, clock } = lineOf();
  clock.now = 2000;
  line.event("+2.000 #3 run iptables-restore --wait 10");
  line.event("+2.001 loader: systemd, as asked for");
  line.clear();
  line.clear();
  expect(written).toEqual([`${ERASE}run iptables-restore --wait 10`, ERASE]);
});

test("counts the seconds that are left, and is then not written over", () => {
  const { line, written, clock } = lineOf();
  clock.now = 5000;
  line.count("waiting for the container web", 55);
  line.event("+5.000 #9 run docker inspect web");
  line.count("waiting for the container web", 54);
  line.count(undefined, 0);
  expect(written).toEqual([
    `${ERASE}waiting for the container web: 55 s`,
    `${ERASE}waiting for the container web: 54 s`,
    ERASE,
  ]);
});

test("is one line, and nothing in it is obeyed", () => {
  const { line, written } = lineOf(20);
  line.count(`x\u001b[2J\n${"y".repeat(50)}`, 1);
  expect(written.join("").slice(ERASE.length)).toMatch(/^[ -~]{19}$/);
});

test("on a terminal that erases nothing what is waited for is one line, which stays", () => {
  const { line, written, clock } = lineOf(40, true);
  clock.now = 5000;
  line.event("+5.000 #9 run docker inspect web");
  line.count("waiting for the container web", 55);
  line.count("waiting for the container web", 54);
  line.count("waiting for the container db", 53);
  line.count(undefined, 0);
  line.clear();
  line.count("waiting for the container db", 9);
  expect(written).toEqual([
    "waiting for the container web: 55 s\n",
    "waiting for the container db: 53 s\n",
    "waiting for the container db: 9 s\n",
  ]);
});
