// The generation of nftables in what the kernel answers.

import fc from "fast-check";
import { expect, test } from "vitest";
import { generationIn, namespaceCookie, readGeneration } from "../../src/netfilter/generation.ts";

/** Of Linux 6.18, after two transactions in a new network namespace. */
const ANSWER = "300000000f0a000007000000c97d00000000000308000100000000030800020000007dc90c000300707974686f6e3300";

const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, "hex"));

test("what the kernel answers", () => {
  expect(generationIn(bytes(ANSWER), 7)).toBe(3);
  expect(generationIn(bytes(ANSWER.replace("0800010000000003", "08000100fffffffe")), 7)).toBe(4_294_967_294);
  expect(generationIn(bytes(ANSWER), 8)).toBeUndefined();
});

test.each([
  ["nothing", ""],
  ["an answer that breaks off", ANSWER.slice(0, 48)],
  ["NLMSG_ERROR: Operation not permitted", `240000000200000007000000c97d0000ffffffff14000000100a010007000000c97d0000`],
  ["another attribute first", ANSWER.replace("08000100", "08000200")],
  ["one of another length", ANSWER.replace("08000100", "0c000100")],
])("%s", (_what, hex) => {
  expect(generationIn(bytes(hex), 7)).toBeUndefined();
});

test("whatever it is, nothing is thrown", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), (message) => void generationIn(message, 0)));
});

test("Node.js cannot ask for it", async () => {
  expect(await readGeneration()).toBeUndefined();
  expect(await namespaceCookie()).toBeUndefined();
});
