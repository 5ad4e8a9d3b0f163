// Lines of a width.

import { expect, test } from "vitest";
import { wrapped } from "../../src/text/wrap.ts";

test("at blanks, and a word that is longer has a line of its own", () => {
  expect(wrapped("one two three", 7)).toBe("one two\nthree");
  expect(wrapped("one /a/path/that/is/long two", 7, "  ")).toBe("  one\n  /a/path/that/is/long\n  two");
  expect(wrapped("one two", 3, "  ", "- ")).toBe("- one\n  two");
});

test("a command in quotes stays whole: whoever copies it copies all of it", () => {
  const hint = "to keep it, 'docker_iptables setup --reload patch', or 'systemctl disable --now firewalld' ends it";
  for (const line of wrapped(hint, 20).split("\n")) expect(line.match(/'/g)?.length ?? 0).not.toBe(1);
  // An apostrophe begins no command.
  expect(wrapped("the host's rules and web's network", 12)).toBe("the host's\nrules and\nweb's\nnetwork");
});
