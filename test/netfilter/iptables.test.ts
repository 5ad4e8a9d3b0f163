import { expect, test } from "vitest";
import { transactionsIn } from "../../src/netfilter/iptables.ts";

test.each([
  [
    "each table with a rule is one",
    "*raw\n-A PREROUTING -j ACCEPT\nCOMMIT\n*nat\n:DOCKER - [0:0]\n-D OUTPUT 1\nCOMMIT\n",
    2,
  ],
  ["with counters, too", "*filter\n[1:2] -A INPUT -j ACCEPT\nCOMMIT\n", 1],
  [
    "a table without a rule may change nothing",
    "*raw\n-A PREROUTING -j ACCEPT\nCOMMIT\n*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n",
    undefined,
  ],
  ["what has no end is none", "*filter\n-A INPUT -j ACCEPT\n", undefined],
  ["nothing is none", "", 0],
])("transactions of a text: %s", (_what, text, count) => {
  expect(transactionsIn(text)).toBe(count);
});
