/*
 * A run for killed.story.ts to kill: makes a lab, says how far it is, and then waits for ever.
 */

import { startLab } from "./lab.ts";

async function main(): Promise<void> {
  const lab = await startLab();
  console.log("lab");
  const host = await lab.host({ name: "doomed" });
  const client = await lab.client("laptop");
  await host.docker.run("web", { publish: ["8080:80"] });
  const result = await client.connect(host.address, 8080);
  if (result.reached) console.log("serving");
  setInterval(() => {}, 60_000);
}

void main();
