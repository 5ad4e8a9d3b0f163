/*
 * The packet matrix: who reaches which port, and which address the container sees. Real packets on a real host, under the
 * rules of Docker 29, ours, those of others and none; each regime is held to Docker 29 and the list of differences.
 */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Host } from "./host.ts";
import {
  DIFFERENCES,
  type Difference,
  differencesOf,
  differencesTable,
  expectedIn,
  type Regime,
} from "./matrix/differences.ts";
import { docker29, type Setting } from "./matrix/docker29.ts";
import { KINDS, makePlace, type Place } from "./matrix/place.ts";
import { deviations, flowsInto, listProbes, measure, nameOf, type Probe } from "./matrix/probes.ts";
import { asDocker29, asOriginal, asOurs, asOwn, byHand, clear, setBridgeNf } from "./matrix/regimes.ts";
import { story } from "./story.ts";

/** Measures every probe under the rules that the host has, and holds it to its regime. */
async function hold(regime: Regime, place: Place, setting: Setting): Promise<void> {
  const probes = listProbes(place);
  const expected = (probe: Probe) => expectedIn(regime, probe, place, setting);
  const measured = await measure(place, probes, expected);
  const found = deviations(probes, measured, expected);
  expect.soft(found, `${regime}, ${JSON.stringify(setting)}`).toEqual([]);
  for (const difference of differencesOf(regime, setting)) holdDifference(difference, probes, place, setting);
}

/** A listed difference is about some probes, and each of them is different with Docker 29. */
function holdDifference({ outcome, probes: words }: Difference, probes: Probe[], place: Place, setting: Setting): void {
  const meant = probes.filter((probe) => outcome(probe, place, setting) !== undefined);
  expect.soft(meant.length, words).toBeGreaterThan(0);
  const same = meant.filter((probe) => outcome(probe, place, setting) === docker29(probe, place, setting));
  expect.soft(same.map(nameOf), words).toEqual([]);
}

describe.each(KINDS)("iptables-$backend, docker-proxy $userlandProxy", ({ backend, userlandProxy }) => {
  story("every probe ends as with Docker 29, but for what is listed", async ({ lab }) => {
    const place = await makePlace(lab, { backend, userlandProxy });
    expect(listProbes(place).length).toBeGreaterThan(1000);

    const docker = await dockerVersion(place.host);
    for (const bridgeNf of [false, true]) {
      const setting = { userlandProxy, bridgeNf, docker };
      await setBridgeNf(place.host, bridgeNf);
      await asDocker29(place, setting);
      await hold("docker29", place, setting);
      const flows = await flowsInto(place);
      // The guards hold under either policy.
      expect(await asOurs(place, bridgeNf ? "ACCEPT" : "DROP")).toMatchObject({ changed: true });
      await hold("ours", place, setting);
      expect.soft(await flowsInto(place), `let through, ${JSON.stringify(setting)}`).toEqual(flows);
    }
    const setting = { userlandProxy, bridgeNf: true, docker };
    if (userlandProxy) await oneRuleLess(place, setting);

    expect(await asOriginal(place)).toContain("Bad argument");
    await hold("original", place, setting);
    // None and by hand do not depend on the backend; with legacy, dockerd 20.10 makes no DNAT for IPv6 here (tried).
    if (backend === "legacy") return;
    await clear(place.host);
    await hold("none", place, setting);
    // The original's README depends on docker-proxy.
    if (userlandProxy) {
      expect(await byHand(place)).toMatchObject({ changed: true });
      await hold("byhand", place, setting);
    }
    await hold("own", await asOwn(place), setting);
  });
});

/** The major one. */
async function dockerVersion(host: Host): Promise<number> {
  const { stdout } = await host.docker.cli("version", "--format", "{{.Server.Version}}");
  return Number.parseInt(stdout, 10);
}

/** The matrix itself: it sees when a single rule of ours is gone. */
async function oneRuleLess(place: Place, setting: Setting): Promise<void> {
  const { stdout } = await place.host.run("iptables", ["-t", "nat", "-S", "DOCKER_CONTAINERS"]);
  const rule = stdout.split("\n").find((line) => line.includes("--dport 8082 ") && line.includes("-p tcp"));
  const { web } = place.addresses;
  expect(rule).toContain(`--to-destination ${web?.bridge?.ipv4}:80`);
  await place.host.run("sh", ["-c", `iptables -t nat ${rule?.replace(/^-A/, "-D")}`]);
  const probes = listProbes(place).filter(({ from, to }) => from === "remote" && "host" in to);
  const expected = (probe: Probe) => expectedIn("ours", probe, place, setting);
  const found = deviations(probes, await measure(place, probes, expected), expected);
  expect
    .soft(found)
    .toEqual([expect.stringMatching(/^remote to the host's first, port 8082\/tcp: .*should be: web:80 sees/)]);
}

test("the pages have the differences", () => {
  const product = readFileSync(new URL("../../docs/rules.md", import.meta.url), "utf8");
  expect(product).toContain(differencesTable("ours").join("\n"));
  const readme = readFileSync(new URL("README.md", import.meta.url), "utf8");
  for (const regime of new Set(DIFFERENCES.map((one) => one.regime))) {
    expect(readme).toContain(differencesTable(regime).join("\n"));
  }
});
