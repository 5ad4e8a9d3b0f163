/*
 * Hostile names, networks and labels, on a real daemon: one document affects only itself, and rules of an excluded container lead
 * to no other.
 */

import { expect } from "vitest";
import type { Client } from "./client.ts";
import type { Host } from "./host.ts";
import { problemsOf } from "./host-state.ts";
import { serverImage } from "./image.ts";
import type { Lab } from "./lab.ts";
import { story } from "./story.ts";

const run = (host: Host, ...args: string[]) => host.run("docker_iptables", args, { check: false });

async function ready(lab: Lab, name: string): Promise<{ host: Host; client: Client }> {
  const host = await lab.host({ name });
  const client = await lab.client("laptop");
  await host.run("docker_iptables", ["setup"]);
  return { host, client };
}

/** docker network create, with a bridge of this name. */
const network = (host: Host, name: string, bridge: string) =>
  host.docker.cli("network", "create", "--opt", `com.docker.network.bridge.name=${bridge}`, name);

story(
  "a name too long, and bridges that are many interfaces to iptables: all others are published",
  async ({ lab }) => {
    const { host, client } = await ready(lab, "documents");
    const long = "a".repeat(236);
    // A host name could not be so long.
    await host.docker.cli("run", "--detach", "--name", long, serverImage, "81");
    await network(host, "plus", "+");
    await network(host, "many", "evil+");
    await host.docker.run("bad", { publish: ["8090:80"], network: "plus" });
    await host.docker.run("web", { publish: ["8080:80"] });

    const first = await run(host, "sync");
    expect(first).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("published: web") });
    expect(first.stderr).toMatch(/the container a{64}… cannot be used: its name has 236 characters/);
    expect(first.stderr).toMatch(/the container bad cannot be used: the network plus cannot be used: .*"\+"/);
    expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, server: "web" });

    // The containers, and the networks by themselves.
    expect(await problemsOf(host)).toEqual(["", "", ` ${long}`, " bad"].map((who) => `answer_unusable${who}`));
    const setup = await run(host, "setup");
    expect(setup).toMatchObject({ exitCode: 0, stderr: expect.stringMatching(/the network many cannot be used/) });
    expect((await host.run("iptables-save")).stdout).not.toMatch(/-[io] \S*\+ /);
    expect(await run(host, "explain", "web")).toMatchObject({ exitCode: 0 });
    expect(await run(host, "create", "web")).toMatchObject({ exitCode: 0 });
    expect(await run(host, "create", "bad")).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining("answer_invalid"),
    });
  },
);

story(
  "a label keeps no fragment whose address is another container's: nobody answers in its place",
  async ({ lab }) => {
    const { host, client } = await ready(lab, "stale");
    const disabled = ["--label", "docker_iptables.enable=false"];
    const address = async () => {
      await host.docker.run("first", { publish: ["9000:80"] });
      await run(host, "sync");
      expect(await client.connect(host.address, 9000)).toMatchObject({ reached: true, server: "first" });
      const taken = await host.docker.address("first");
      await host.docker.cli("rm", "--force", "first");
      // Of the same name, without a network; and one that publishes nothing gets the address.
      await host.docker.cli("run", "--detach", "--name", "first", "--network", "none", ...disabled, serverImage, "1");
      await host.docker.run("secretdb");
      expect(await host.docker.address("secretdb")).toBe(taken);
    };
    const nobodyAnswers = async () => {
      expect(await client.connect(host.address, 9000)).toMatchObject({ reached: false });
      expect((await host.run("iptables-save")).stdout).not.toContain("docker_iptables: first");
    };

    await address();
    expect(await client.connect(host.address, 9000)).toMatchObject({ reached: true, server: "secretdb" });
    expect(await problemsOf(host)).toEqual(["fragment_outdated first"]);
    const swept = await run(host, "sync");
    expect(swept).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("unpublished: first") });
    expect(swept.stderr).toContain("first is disabled by its label, and is not at");
    await nobodyAnswers();
    expect(await problemsOf(host)).toEqual([]);

    await host.docker.cli("rm", "--force", "first", "secretdb");
    await address();
    // A call for the other one by its name removes what leads there.
    expect(await run(host, "create", "secretdb")).toMatchObject({
      exitCode: 0,
      stdout: expect.stringContaining("updated: first"),
    });
    await nobodyAnswers();
  },
);

story("what is left alone stays reached while its fragment is true", async ({ lab }) => {
  const { host, client } = await ready(lab, "true");
  await host.docker.run("web", { publish: ["8080:80"] });
  await run(host, "create", "web");
  await host.docker.cli("rm", "--force", "web");
  await host.docker.run("web", { publish: ["8080:80"], options: ["--label", "docker_iptables.enable=false"] });
  expect(await run(host, "sync")).toMatchObject({
    exitCode: 0,
    stdout: expect.stringContaining("the containers are in sync"),
  });
  expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, peer: client.address });
  expect(await problemsOf(host)).toEqual([]);
});
