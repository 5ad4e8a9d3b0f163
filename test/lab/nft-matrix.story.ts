/*
 * nftables as the backend, by packets: every probe of both matrices ends as with our iptables rules.
 */

import { describe, expect } from "vitest";
import { readTable } from "../../src/nft/table.ts";
import { expectedOf } from "./allow-matrix/expected.ts";
import { makePlace as makeSources } from "./allow-matrix/place.ts";
import * as sources from "./allow-matrix/probes.ts";
import { apply, type Regime } from "./allow-matrix/regimes.ts";
import { ask } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { expectedIn } from "./matrix/differences.ts";
import { makePlace } from "./matrix/place.ts";
import { deviations, flowsInto, listProbes, measure, type Probe } from "./matrix/probes.ts";
import { asNft, asOurs, setBridgeNf } from "./matrix/regimes.ts";
import { storyWith } from "./story.ts";

/** What is said of IPv6, direct access and packets between a bridge's ports. */
const REGIMES: readonly Regime[] = [
  { ipv6: true, guards: true, bridgeNf: false, base: "ours", reload: "restore", backend: "nft" },
  { ipv6: false, guards: false, bridgeNf: true, base: "ours", reload: "restore", backend: "nft" },
  { ipv6: true, guards: false, bridgeNf: false, base: "ours", reload: "restore", backend: "nft" },
];

describe.each([true, false])("docker-proxy %s", (userlandProxy) => {
  storyWith({ packages: ["nftables"] })("every probe ends as with our rules of iptables", async ({ lab }) => {
    const place = await makePlace(lab, { backend: "nft", userlandProxy });
    const { host } = place;
    const docker = Number.parseInt((await host.docker.cli("version", "--format", "{{.Server.Version}}")).stdout, 10);
    const probes = listProbes(place);
    for (const bridgeNf of [false, true]) {
      const setting = { userlandProxy, bridgeNf, docker };
      const expected = (probe: Probe) => expectedIn("ours", probe, place, setting);
      await setBridgeNf(host, bridgeNf);
      await asOurs(place, "ACCEPT");
      await measure(place, probes, expected);
      const flows = await flowsInto(place);
      expect(await asNft(place)).toMatchObject({ changed: true });
      expect.soft(deviations(probes, await measure(place, probes, expected), expected)).toEqual([]);
      expect.soft(await flowsInto(place)).toEqual(flows);
      // Whoever loads the files by nft itself gets the same, and does so on top of itself.
      const before = await elementsOf(host);
      await host.run("sh", ["-c", "cat /etc/nftables.d/*.nft > /run/all.nft && nft -f /run/all.nft"]);
      expect(await elementsOf(host)).toEqual(before);
      expect(await ask(host, { query: "status", backend: "nft", reload: "restore" })).toMatchObject({ problems: [] });
    }
  });

  storyWith({ packages: ["nftables"] })("who is listed reaches a port, and no other machine does", async ({ lab }) => {
    const place = await makeSources(lab, { backend: "nft", userlandProxy });
    for (const regime of REGIMES) {
      const setting = { ...regime, userlandProxy };
      await apply(place, regime, userlandProxy);
      const expected = (probe: sources.Probe) => expectedOf(probe, place, setting);
      const found = await sources.deviations(place, sources.listProbes(place), expected);
      expect.soft(found, JSON.stringify(regime)).toEqual([]);
    }
  });
});

/** By set: what is in it, whoever's it is. */
async function elementsOf(host: Host): Promise<Map<string, string[]>> {
  const { stdout } = await host.run("nft", ["--json", "list", "table", "inet", "docker_iptables"]);
  const { sets = new Map() } = readTable(stdout) ?? {};
  return new Map(
    [...sets].map(([name, { elements }]) => [
      name,
      [...elements].map(([key, { value }]) => `${key} : ${value}`).sort(),
    ]),
  );
}
