// `rolled_back`: strings of the contract, made of facts.

import { expect, test } from "vitest";
import { resultOfFailure } from "../../src/cli/result.ts";
import { Failure } from "../../src/model/errors.ts";
import { printUndone } from "../../src/model/rolled-back.ts";

test("what could not be restored says so first, to machines and to a person", () => {
  const failure = new Failure("reload_failed", "the load failed");
  failure.rolledBack = [
    { kind: "put_back", what: "/etc/iptables.d/NOTES" },
    { kind: "not_put_back", why: "the disk is full" },
  ];
  const { rolled_back = [] } = resultOfFailure(failure, undefined, false, false);
  expect(rolled_back).toEqual(["/etc/iptables.d/NOTES", "NOT put back: the disk is full"]);
  expect(rolled_back.map(printUndone)).toEqual([
    "  put back: /etc/iptables.d/NOTES",
    "  NOT put back: the disk is full",
  ]);
});
