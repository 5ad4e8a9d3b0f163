/*
 * `npm run demo`: the main job on the most real thing that this machine allows. As root on Debian: a host with
 * systemd and dockerd in namespaces of its own, a container, a client. Else a recorded inspect document, and
 * iptables in a user namespace where there are both. It says which, and leaves the machine as it was.
 */

import { execa } from "execa";
import { ask } from "./fixtures.ts";
import { startLab } from "./lab.ts";
import type { ProbeResult } from "./probe.ts";
import { recordedDemo } from "./recorded-demo.ts";

const say = (text: string) => console.log(text);
const step = (text: string) => say(`\n== ${text}`);

async function realDemo(): Promise<void> {
  await using lab = await startLab();
  const host = await lab.host({ name: "web1" });
  const client = await lab.client("laptop");
  const shown = async (command: string, ...args: string[]) => say((await host.run(command, args)).stdout.trimEnd());
  const connect = async () =>
    say(`laptop (${client.address}) -> ${host.address}:8080: ${told(await client.connect(host.address, 8080))}`);

  step("A host with dockerd --iptables=false, and nothing else");
  await shown("docker", "version", "--format", "dockerd {{.Server.Version}}");
  await shown("iptables", "--version");

  step("docker run --name web --publish 8080:80: nobody made rules, so docker-proxy hides who connects");
  await host.docker.run("web", { publish: ["8080:80"] });
  await connect();

  step("docker_iptables setup");
  await shown("docker_iptables", "setup");

  const asked = { container: "web" };
  // What it was asked, which every answer repeats, is most of it.
  const answer = async () => ({ ...(await ask(host, asked)), invocation: undefined });
  step(`echo '${JSON.stringify(asked)}' | docker_iptables (without the "invocation" in its answer)`);
  say(JSON.stringify(await answer(), undefined, 2));
  step("cat /etc/iptables.d/11-docker-container_web");
  await shown("cat", "/etc/iptables.d/11-docker-container_web");
  step("iptables-save | grep docker_iptables");
  await shown("sh", "-c", "iptables-save | grep docker_iptables");
  await connect();

  step("The same again changes nothing");
  say(JSON.stringify(await answer()));

  step("docker_iptables delete web");
  await shown("docker_iptables", "delete", "web");
  await shown("sh", "-c", "echo rules of web left: $(iptables-save | grep -c 'docker_iptables: web')");
  await connect();
}

function told(result: ProbeResult): string {
  return result.reached ? `answered by ${result.server}, which sees ${result.peer}` : `not answered (${result.why})`;
}

/** Whether the lab can be had: root, and Debian's packages for what the machine lacks. */
async function whyNotReal(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return "this needs root";
  const apt = await execa("apt-get", ["--version"], { reject: false });
  return apt.failed ? "this needs Debian's apt-get" : undefined;
}

const why = await whyNotReal();
if (why === undefined) {
  say("A real container on a real host: systemd, dockerd and iptables in namespaces of their own.");
  await realDemo();
} else {
  say(`No real container, because ${why}.`);
  await recordedDemo(say, step);
}
say("\nDone. Nothing of it is left outside this clone.");
