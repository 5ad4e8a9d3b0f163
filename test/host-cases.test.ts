// Golden cases of the host's rules: host-cases/NAME.json is what `network inspect` printed, and the arguments; NAME.txt is what
// setup writes. `npx vitest run test/host-cases.test.ts -u` writes the .txt of a new case; review it.

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { readNetwork } from "../src/docker/network.ts";
import { writeFragment } from "../src/iptables/fragment-text.ts";
import { FAMILIES } from "../src/model/family.ts";
import { fileOf } from "../src/model/owner.ts";
import { hostFragments } from "../src/rules/host-fragments.ts";

const CASES = fileURLToPath(new URL("host-cases/", import.meta.url));
const files = readdirSync(CASES);
const names = files.filter((file) => file.endsWith(".json")).map((file) => file.replace(/\.json$/, ""));

interface Given {
  about: string;
  /** Others than a setup without flags on a host with docker-proxy has. */
  wishes: { chain?: string; guards?: boolean; proxy?: boolean };
  networks: Parameters<typeof readNetwork>[0][];
}

test.each(names)("%s", async (name) => {
  const { about, wishes, networks }: Given = JSON.parse(readFileSync(`${CASES}${name}.json`, "utf8"));
  expect(about).toMatch(/\w/);
  const asked = { chain: "DOCKER_CONTAINERS", guards: true, proxy: true, routes: [], ...wishes };
  const fragments = hostFragments(networks.map(readNetwork), FAMILIES, asked);
  const text = FAMILIES.flatMap((family) =>
    fragments.map((one) => `== ${family} ${fileOf(one.owner)}\n${writeFragment(one).texts[family] ?? "no file\n"}`),
  );
  await expect(text.join("")).toMatchFileSnapshot(`${CASES}${name}.txt`);
});

test("every expectation belongs to a case", () => {
  expect(files.filter((file) => !names.includes(file.replace(/\.(json|txt)$/, "")))).toEqual([]);
});
