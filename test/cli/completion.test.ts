// What a shell shows of an option while it completes.

import { expect, test } from "vitest";
import { completionScript } from "../../src/cli/completion.ts";

test.each(["zsh", "fish"] as const)("%s: what a negated flag switches off is said, in a whole sentence", (shell) => {
  const line = completionScript(shell)
    .split("\n")
    .find((one) => /no-guards/.test(one));
  expect(line).toMatch(/Disables this\\?: Drop packets to container ports .* packets that enter its network['\]]/);
});
