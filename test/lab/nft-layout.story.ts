/*
 * The layout of our own table in nftables, by packets: every probe of the matrix ends as with our iptables rules, which are read, rendered
 * for nftables, loaded in their place and measured again.
 */

import { basename } from "node:path";
import { describe, expect } from "vitest";
import { readNetwork } from "../../src/docker/network.ts";
import { readFragment } from "../../src/iptables/fragment-text.ts";
import { readMeaning } from "../../src/iptables/read.ts";
import { FAMILIES, type Family } from "../../src/model/family.ts";
import { renderElements } from "../../src/nft/elements.ts";
import { containerLines, hostLines, loadText } from "../../src/nft/text.ts";
import { makeHostRules } from "../../src/rules/host-rules.ts";
import type { Host } from "./host.ts";
import { expectedIn } from "./matrix/differences.ts";
import { makePlace, NETWORKS } from "./matrix/place.ts";
import { deviations, flowsInto, listProbes, measure, type Probe } from "./matrix/probes.ts";
import { asOurs, clear, setBridgeNf } from "./matrix/regimes.ts";
import { storyWith } from "./story.ts";

const DIRECTORIES: Record<Family, string> = { ipv4: "/etc/iptables.d", ipv6: "/etc/ip6tables.d" };

/** What the iptables fragments of the host's containers say, as lines of nftables; and the host's own rules. */
async function linesOf(host: Host, proxy: boolean): Promise<string[]> {
  const { stdout } = await host.docker.cli("network", "inspect", ...Object.keys(NETWORKS));
  const networks = JSON.parse(stdout).map(readNetwork);
  const lines = hostLines(
    "(10_docker)",
    { proxy },
    FAMILIES.map((family) => {
      const { first, last } = makeHostRules(networks, family, { guards: true, proxy, routes: [] });
      return renderElements([...first, ...last], family, "(10_docker)");
    }),
  );
  for (const family of FAMILIES) {
    const files = await host.run("find", [DIRECTORIES[family], "-name", "11-docker-container_*"]);
    for (const path of files.stdout.split("\n").filter((one) => one !== "")) {
      const owner = basename(path).replace("11-docker-container_", "");
      const meaning = readMeaning(readFragment(await host.read(path)));
      lines.push(...containerLines(owner, [renderElements(meaning, family, owner)]));
    }
  }
  return lines;
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
      const lines = await linesOf(host, userlandProxy);
      await clear(host);
      await host.run("nft", ["-f", "-"], { input: loadText(lines) });
      expect.soft(deviations(probes, await measure(place, probes, expected), expected)).toEqual([]);
      expect.soft(await flowsInto(place)).toEqual(flows);
      // Loaded again on top of itself it stays the same.
      const before = await host.run("nft", ["list", "table", "inet", "docker_iptables"]);
      await host.run("nft", ["-f", "-"], { input: [...lines, ""].join("\n") });
      expect((await host.run("nft", ["list", "table", "inet", "docker_iptables"])).stdout).toBe(before.stdout);
      await host.run("nft", ["delete", "table", "inet", "docker_iptables"]);
    }
  });
});
