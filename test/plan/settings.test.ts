// What a setup keeps of its arguments.

import { expect, test } from "vitest";
import { readRequest } from "../../src/cli/request.ts";
import { NO_SETTINGS } from "../../src/model/settings.ts";
import { planSettings } from "../../src/plan/settings.ts";

const kept = (given: Record<string, unknown>) =>
  JSON.parse(planSettings(readRequest(given, { env: {}, cwd: "/" }, NO_SETTINGS))?.after ?? "null");

test("lists are the host's, but for those of containers that the call names", () => {
  const allow = { "*": ["10.0.0.0/8"] };
  expect(kept({ base: true, allow })).toEqual({ allow });
  expect(kept({ base: true, container: "web", allow })).toBeNull();
  expect(kept({ base: true, container: "web", allow, ipv6: true })).toEqual({ ipv6: true });
});
