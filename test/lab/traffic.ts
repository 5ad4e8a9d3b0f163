/*
 * Traffic while something changes: new connections all the time, and one that stands.
 */

import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "./client.ts";
import type { Host } from "./host.ts";

/** Opens connections, 200 a second, while `body` runs; how many there were, and how many were not answered by the container as they should. */
export async function lossesDuring(connect: () => Promise<boolean>, body: () => Promise<void>) {
  let going = true;
  const attempts: Promise<boolean>[] = [];
  const opening = (async () => {
    while (going) {
      attempts.push(connect());
      await sleep(5);
    }
  })();
  try {
    await body();
  } finally {
    going = false;
  }
  await opening;
  const answers = await Promise.all(attempts);
  return { opened: answers.length, lost: answers.filter((good) => !good).length };
}

/** Says who has connected, then repeats what it hears. */
const ECHO = `require("node:net").createServer((one) => {
  one.on("error", () => {});
  one.write(one.remoteAddress.replace("::ffff:", "") + "\\n");
  one.pipe(one);
}).listen(81)`;

/** Keeps one connection busy until there is a file; prints whom the server saw and how often it answered. */
const TALK = `const [host, stop] = process.argv.slice(1);
const talk = () => {
  let answers = 0, peer = "";
  const one = require("node:net").connect(81 + 8000, host);
  const fail = (why) => { console.error(why, answers); process.exit(1); };
  one.on("error", (error) => (answers === 0 && error.code === "ECONNREFUSED" ? setTimeout(talk, 50) : fail(error.code)));
  one.on("end", () => fail("closed"));
  // Seconds without an answer in which this process was awake.
  let silence = 0, last = Date.now();
  const listen = () => {
    const now = Date.now();
    silence += Math.min(now - last, 200);
    last = now;
    if (silence > 10_000) fail("silence");
  };
  // One that is refused is tried again.
  one.on("connect", () => setInterval(listen, 100));
  one.on("data", (data) => {
    if (peer === "") peer = String(data).trim();
    answers += 1;
    silence = 0;
    if (!require("node:fs").existsSync(stop)) return setTimeout(() => one.write("?"), 5);
    console.log(JSON.stringify({ peer, answers }));
    process.exit(0);
  });
};
talk();`;

/** Opens a connection through a published port, and keeps it in use; the function ends it and returns the outcome. */
export async function conversation(
  host: Host,
  client: Client,
): Promise<() => Promise<{ peer: string; answers: number }>> {
  const { Pid } = (await host.docker.inspect("web")).State;
  void host.run("nsenter", [`--net=/proc/${Pid}/ns/net`, "node", "-e", ECHO], { check: false });
  const stop = "/run/lab/conversation-ends";
  const talk = client.run(process.execPath, ["-e", TALK, "--", host.address, stop], { check: false });
  return async () => {
    await client.run("touch", [stop]);
    const { stdout, stderr } = await talk;
    return stdout === "" ? { peer: stderr, answers: 0 } : JSON.parse(stdout);
  };
}
