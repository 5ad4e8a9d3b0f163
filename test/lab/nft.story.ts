/*
 * nftables as the backend: a table of our own, from setup to a reboot, by the doors that everybody uses.
 */

import { expect } from "vitest";
import type { Host } from "./host.ts";
import { storyWith } from "./story.ts";

const story = storyWith({ packages: ["nftables"] });

async function ask(host: Host, ...args: string[]) {
  const { stdout, stderr } = await host.run("docker_iptables", [...args, "--json"], { check: false });
  return { ...JSON.parse(stdout), stderr };
}

story("setup, create, delete, a restart, a reboot", async ({ lab }) => {
  const host = await lab.host({ name: "nft" });
  const client = await lab.client("laptop");
  await host.docker.run("web", { publish: ["8080:80", "9000-9002:9000-9002"] });
  const first = await ask(host, "setup", "--backend", "nft");
  console.log(JSON.stringify({ ...first, rules: 0 }));
  const made = await ask(host, "create", "web", "--verbose");
  console.log(JSON.stringify({ ...made, stderr: 0 }), made.stderr);
  console.log((await host.run("nft", ["list", "table", "inet", "docker_iptables"])).stdout.split("\n").filter((l) => /element|comment/.test(l)).slice(0, 30).join("\n"));
  expect(await client.connect(host.address, 8080)).toMatchObject({ reached: true, peer: client.address });
  expect(await ask(host, "create", "web")).toMatchObject({ changed: false });
  console.log(JSON.stringify(await ask(host, "status"), null, 1));
  console.log((await host.run("docker_iptables", ["explain", "web"])).stdout);
  expect(await ask(host, "delete", "web")).toMatchObject({ changed: true });
  await until(async () => true);
});
