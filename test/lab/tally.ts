/*
 * A reporter for vitest: each story with what came of it, as JSON in the file that LAB_TALLY names. For hosts-table.ts.
 */

import { writeFileSync } from "node:fs";
import { basename } from "node:path";
import type { Reporter, TestModule } from "vitest/node";

/** What came of one story. */
export interface Told {
  /** Its file, without the ending. */
  file: string;
  name: string;
  state: "passed" | "failed" | "skipped";
  /** Why it was left out. */
  note?: string;
}

export default class Tally implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const path = process.env["LAB_TALLY"];
    if (path === undefined) return;
    writeFileSync(path, JSON.stringify(modules.flatMap(toldBy)));
  }
}

function toldBy(module: TestModule): Told[] {
  const file = basename(module.moduleId).replace(/\.story\.ts$/, "");
  const told = [...module.children.allTests()].map((test): Told => {
    const result = test.result();
    const note = result.state === "skipped" ? result.note : undefined;
    const state = result.state === "pending" ? "failed" : result.state;
    return { file, name: test.fullName, state, ...(note === undefined ? {} : { note }) };
  });
  // A file that could not be read has no story at all.
  return told.length > 0 ? told : [{ file, name: file, state: "failed" }];
}
