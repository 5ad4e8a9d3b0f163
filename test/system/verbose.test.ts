// What --verbose shows: lines that are one write each, whatever is in them; and that it costs nothing where it is off.

import fc from "fast-check";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { run } from "../../src/system/exec.ts";
import { spellCommand, startVerbose, verbose, verboseSpan } from "../../src/system/verbose.ts";

const LINE = /^\+\d+\.\d{3} \S/;
const OBEYED = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;
/** bytes; pipe(7): what is written in one piece stays whole. */
const PIPE_BUF = 4096;

const lines: string[] = [];

test("off: no text is made", async () => {
  const never = () => {
    throw new Error("made");
  };
  verbose(never);
  verboseSpan(never)(never);
  await run("true", [], { timeoutSeconds: 60 });
});

describe("on", () => {
  beforeAll(() => startVerbose((line) => lines.push(line)));
  beforeEach(() => {
    lines.length = 0;
  });

  test("an event is a line, several are several, none is none", () => {
    verbose(() => "one");
    verbose(() => ["two", "  three"]);
    verbose(() => []);
    expect(lines.map((line) => line.replace(/^\S+ /, ""))).toEqual(["one", "two", "  three"]);
  });

  test("what takes time has a number of its own, at both ends", () => {
    const [first, second] = [verboseSpan(() => "a"), verboseSpan(() => "b")];
    second(() => "b ended");
    first(() => "a ended");
    const shape = lines.map((line) => /^\+\S+ #(\d+) (\w+)(?: ended \(\d+\.\d{3} s\))?$/.exec(line)?.slice(1));
    const number = Number(shape[0]?.[0]);
    expect(shape).toEqual([
      [`${number}`, "a"],
      [`${number + 1}`, "b"],
      [`${number + 1}`, "b"],
      [`${number}`, "a"],
    ]);
  });

  test("whatever is in it, it is one line that a pipe keeps whole, and nothing in it is obeyed", () => {
    const part = fc.oneof(
      fc.constantFrom("\n", "\r\n", "\u2028", "\u001b[2K", "{", "[", "👋".repeat(500), "好".repeat(900)),
      fc.string({ unit: "binary" }),
    );
    const property = fc.property(fc.array(part), (parts) => {
      const text = parts.join("");
      lines.length = 0;
      verbose(() => text);
      verbose(() => spellCommand(["rm", text]));
      expect(lines).toHaveLength(2);
      for (const line of lines) {
        expect(line).not.toMatch(OBEYED);
        expect(line).toMatch(/^\+\d+\.\d{3}/);
        expect(Buffer.byteLength(`${line}\n`)).toBeLessThanOrEqual(PIPE_BUF);
      }
    });
    fc.assert(property, { seed: 3, numRuns: 100 });
  });

  test("words of a command are distinguished", () => {
    expect(spellCommand(["docker", "ps", "--format", "{{.Names}}", "", "a b", 'x" y', "x\n+0.001 done"])).toBe(
      'docker ps --format "{{.Names}}" "" "a b" "x\\" y" "x\\n+0.001 done"',
    );
    expect(spellCommand(["sh", "-c", "x".repeat(1000)]).length).toBeLessThan(150);
  });

  test.each<[string, string, RegExp]>([
    ["well", "echo out", /^sh: exit 0, 4 bytes \(/],
    ["with another status and words", "echo bad >&2; exit 3", /^sh: exit 3, 0 bytes, stderr "bad" \(/],
    ["by a signal", "kill -TERM $$", /^sh: ended by SIGTERM, 0 bytes \(/],
    [
      "with words that look like a line of ours",
      "printf 'x\\n+0.001 #1 sh: exit 0' >&2",
      /^sh: exit 0, 0 bytes, stderr "x\\n\+0\.001 #1 sh: exit 0" \(/,
    ],
  ])("a command that ends %s", async (_how, script, end) => {
    await run("sh", ["-c", script], { timeoutSeconds: 60, input: "secret" });
    expect(lines).toHaveLength(2);
    for (const line of lines) expect(line).toMatch(LINE);
    const [begin = "", ended = ""] = lines.map((line) => line.replace(/^\S+ #\d+ /, ""));
    expect(begin).toBe(`run ${spellCommand(["sh", "-c", script])}, 6 bytes of input`);
    expect(ended).toMatch(end);
  });

  test("a command that runs out of time, and one that there is not", async () => {
    await run("sleep", ["600"], { timeoutSeconds: 0.1 }).catch(() => {});
    await run("no-such-command", [], { timeoutSeconds: 60 }).catch(() => {});
    const ends = lines.filter((_, index) => index % 2 === 1).map((line) => line.replace(/^\S+ #\d+ | \(.*$/g, ""));
    expect(ends).toEqual(["sleep: stopped: out of time, 0 bytes", "no-such-command: not started: ENOENT"]);
  });
});
