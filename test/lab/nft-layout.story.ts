/*
 * The layout of our own table in nftables, by packets: every probe of both matrices ends as with our iptables rules, which are read,
 * rendered for nftables, loaded in their place and measured again.
 */

import { describe, expect } from "vitest";
import { readNetwork } from "../../src/docker/network.ts";
import { readFragment } from "../../src/iptables/fragment-text.ts";
import { readMeaning } from "../../src/iptables/read.ts";
import { FAMILIES, type Family } from "../../src/model/family.ts";
import { containerOf } from "../../src/model/owner.ts";
import { renderElements } from "../../src/nft/elements.ts";
import { containerLines, hostLines, loadText } from "../../src/nft/text.ts";
import { makeHostRules } from "../../src/rules/host-rules.ts";
import { expectedOf } from "./allow-matrix/expected.ts";
import { makePlace as makeSources } from "./allow-matrix/place.ts";
import * as sources from "./allow-matrix/probes.ts";
import { apply, type Regime } from "./allow-matrix/regimes.ts";
import type { Host } from "./host.ts";
import { expectedIn } from "./matrix/differences.ts";
import { makePlace } from "./matrix/place.ts";
import { deviations, flowsInto, listProbes, measure, type Probe } from "./matrix/probes.ts";
import { asOurs, clear, setBridgeNf } from "./matrix/regimes.ts";
import { storyWith } from "./story.ts";

/** What is said of IPv6, direct access and packets between a bridge's ports; the base is always ours. */
const REGIMES: readonly Regime[] = [
  { ipv6: true, guards: true, bridgeNf: false, base: "ours", reload: "restore" },
  { ipv6: false, guards: false, bridgeNf: true, base: "ours", reload: "restore" },
  { ipv6: true, guards: false, bridgeNf: false, base: "ours", reload: "restore" },
];

const DIRECTORIES: Record<Family, string> = { ipv4: "/etc/iptables.d", ipv6: "/etc/ip6tables.d" };

/** What the iptables fragments of the host's containers say, as lines of nftables; and the host's own rules. */
async function linesOf(host: Host, { proxy, guards }: { proxy: boolean; guards: boolean }): Promise<string[]> {
  const all = await host.docker.cli("network", "ls", "--quiet");
  const { stdout } = await host.docker.cli("network", "inspect", ...all.stdout.split("\n").filter(Boolean));
  const networks = JSON.parse(stdout).map(readNetwork);
  const owner = "(10_docker)";
  const files = await host.run("find", [...Object.values(DIRECTORIES), "-name", "1*_docker*", "-o", "-name", "11-*"]);
  const paths = files.stdout.split("\n").filter(Boolean);
  const families = FAMILIES.filter((family) => paths.includes(`${DIRECTORIES[family]}/10_docker`));
  const rendered = families.map((family) => {
    const { first, last } = makeHostRules(networks, family, { guards, proxy, routes: [] });
    return renderElements([...first, ...last], family, owner);
  });
  const containers = paths.flatMap(async (path) => {
    const owner = containerOf(path);
    const family = FAMILIES.find((one) => path.startsWith(DIRECTORIES[one]));
    if (owner === undefined || family === undefined) return [];
    const meaning = readMeaning(readFragment(await host.read(path)));
    return containerLines(owner, [renderElements(meaning, family, owner)]);
  });
  return [...hostLines(owner, { proxy }, rendered), ...(await Promise.all(containers)).flat()];
}

/** Takes the rules of iptables away, and has nftables' in their place while `works` runs. */
async function inNftables(host: Host, lines: readonly string[], works: () => Promise<void>): Promise<void> {
  await clear(host);
  await host.run("nft", ["-f", "-"], { input: loadText(lines) });
  await works();
  await host.run("nft", ["delete", "table", "inet", "docker_iptables"]);
}

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
      const lines = await linesOf(host, { proxy: userlandProxy, guards: true });
      await inNftables(host, lines, async () => {
        expect.soft(deviations(probes, await measure(place, probes, expected), expected)).toEqual([]);
        expect.soft(await flowsInto(place)).toEqual(flows);
        // Loaded again on top of itself it stays the same.
        const before = await host.run("nft", ["list", "table", "inet", "docker_iptables"]);
        await host.run("nft", ["-f", "-"], { input: [...lines, ""].join("\n") });
        expect((await host.run("nft", ["list", "table", "inet", "docker_iptables"])).stdout).toBe(before.stdout);
      });
    }
  });

  storyWith({ packages: ["nftables"] })("who is listed reaches a port, and no other machine does", async ({ lab }) => {
    const place = await makeSources(lab, { backend: "nft", userlandProxy });
    const { host } = place;
    for (const regime of REGIMES) {
      const setting = { ...regime, userlandProxy };
      await apply(place, regime, userlandProxy);
      const lines = await linesOf(host, { proxy: userlandProxy, guards: regime.guards });
      await inNftables(host, lines, async () => {
        const expected = (probe: sources.Probe) => expectedOf(probe, place, setting);
        const found = await sources.deviations(place, sources.listProbes(place), expected);
        expect.soft(found, JSON.stringify(regime)).toEqual([]);
      });
    }
  });
});
