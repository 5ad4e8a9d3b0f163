/*
 * What stories share is made before any of them runs: two would make it at once, and a machine that writes hundreds of megabytes to its
 * disk stands still for seconds.
 */

import { packageRoot } from "./packages.ts";
import { chosenSuite, suiteRoot } from "./suites.ts";

export default async function setup(): Promise<void> {
  // startLab says that it needs root.
  if (process.getuid?.() !== 0) return;
  const suite = chosenSuite();
  if (suite !== undefined) await suiteRoot(suite);
  await packageRoot();
}
