/*
 * The oracle of networks' options: a network of each kind that the host's daemon knows, measured by packets under the daemon's own rules,
 * then under ours, probe by probe. Where they differ is listed, by version.
 */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { ask } from "./fixtures.ts";
import { type Difference, differencesOf, differencesTable, inShort } from "./network-options/differences.ts";
import { KINDS } from "./network-options/kinds.ts";
import { listProbes, makePlace, measure, type Probe, setDaemon } from "./network-options/place.ts";
import { story } from "./story.ts";

describe.each([true, false])("docker-proxy %s", (userlandProxy) => {
  story("every kind of network is reached as under Docker's own rules, but for what is listed", async ({ lab }) => {
    const place = await makePlace(lab, userlandProxy);
    const { host, kinds, version } = place;
    const unknown = KINDS.filter((kind) => !kinds.includes(kind)).map(({ name, since }) => `${name} (${since})`);
    if (unknown.length > 0) console.log(`Docker ${version} does not know: ${unknown.join(", ")}`);
    const docker = await measure(place);
    expect(docker.size).toBeGreaterThan(300);

    await setDaemon(place, false);
    const containers = kinds.map(({ name }) => name);
    // What Docker left, host_ipv4's SNAT too, is its own and stops nothing.
    const request = { base: true, container: containers, ipv6: true, reload: "restore" };
    const answer = await ask(host, request);
    expect(answer.failed, answer.msg).toBeUndefined();
    // It is loaded, and not patched beside them.
    expect(answer.warnings?.join()).not.toMatch(/no fragment/);
    const left = await Promise.all(["iptables-save", "ip6tables-save"].map((save) => host.run(save)));
    const rules = left.flatMap(({ stdout }) => stdout.split("\n").filter((line) => line.startsWith("-A ")));
    expect(rules.filter((line) => !line.includes("docker_iptables"))).toEqual([]);
    expect(await ask(host, request), "again").toMatchObject({ changed: false });
    const ours = await measure(place);
    const listed = differencesOf(version, userlandProxy);
    const differing = listProbes(place).filter(({ name }) => docker.get(name) !== ours.get(name));
    const unlisted = differing.filter((probe) => !listed.some((one) => isSuch(one, probe, docker, ours)));
    const found = unlisted.map(({ name }) => `${name}: Docker: ${docker.get(name)}; ours: ${ours.get(name)}`);
    expect.soft(found, version).toEqual([]);
    const idle = listed.filter((one) => !differing.some((probe) => isSuch(one, probe, docker, ours)));
    expect
      .soft(
        idle.map(({ probes }) => probes),
        version,
      )
      .toEqual([]);
  });
});

type Outcomes = ReadonlyMap<string, string>;

function isSuch(one: Difference, probe: Probe, docker: Outcomes, ours: Outcomes): boolean {
  const isAsListed = inShort(docker.get(probe.name)) === one.docker && inShort(ours.get(probe.name)) === one.here;
  return one.isAbout(probe) && isAsListed;
}

test("the README has the differences", () => {
  const readme = readFileSync(new URL("README.md", import.meta.url), "utf8");
  expect(readme).toContain(differencesTable().join("\n"));
});
