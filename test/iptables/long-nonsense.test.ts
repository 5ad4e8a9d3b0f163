// A long text of nonsense is read like a short one: with a reader that grows with the square of it, this would take hours.

import { describe, expect, test } from "vitest";
import { readAll } from "../fuzz/rule-texts.ts";

describe("200,000 characters of it are read", () => {
  test.each([
    ["quotes that never close", '"a '],
    ["escaped quotes", '"a\\"b '],
    ["backslashes", '"\\'],
    ["sections of one table", "*nat\n-A X\nCOMMIT\n"],
    ["sections that never end", "*nat\n"],
    ["one rule again and again", '*nat\n-A X -m comment --comment "docker_iptables: web"\n'],
    ["chains", ":X - [0:0]\n"],
    ["counters that never end", "[1"],
    ["blanks", " "],
    ["blank lines", " \n"],
    ["negations", "! "],
    ["junk", "junk\n"],
  ])("%s", { timeout: 600_000 }, (_what, piece) => {
    const garbage = piece.repeat(Math.ceil(200_000 / piece.length));
    for (const whole of [garbage, `*nat\n-A ${garbage}`]) expect(() => readAll(whole)).not.toThrow();
  });
});
