// `npm run test:nodes`: starts the built executable under every Node.js that it claims, alone in an empty folder and below a
// package.json of either module type; under the oldest and the newest, runs the program tests in which a Node.js could differ.

import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { nodeFolder, VERSIONS } from "./node-folder.ts";

const EXECUTABLE = fileURLToPath(new URL("../dist/docker_iptables", import.meta.url));
const MODULE = fileURLToPath(
  new URL("../dist/ansible_collections/docker_iptables/host/plugins/modules/docker_iptables.cjs", import.meta.url),
);

/**
 * Starts the executable by its name, as a unit does, and by `node FILE`, below each kind of package.json; and Ansible's
 * module, as Ansible does.
 */
async function startAlone(version: string, folder: string): Promise<void> {
  for (const type of [undefined, "commonjs", "module"]) {
    const parent = mkdtempSync(join(tmpdir(), "docker_iptables-alone-"));
    try {
      if (type !== undefined) writeFileSync(join(parent, "package.json"), JSON.stringify({ type }));
      const alone = join(parent, "empty");
      mkdirSync(alone);
      const file = join(alone, "docker_iptables");
      copyFileSync(EXECUTABLE, file);
      const module = join(alone, "docker_iptables.cjs");
      copyFileSync(MODULE, module);
      const env = { PATH: `${folder}:/usr/bin:/bin` };
      const options = { env, extendEnv: false, cwd: "/", input: '{"container": "-rf"}', reject: false } as const;
      // Node 18 and 20 themselves refuse to be given a file without extension below "type": "module".
      const refused = type === "module" && Number.parseInt(version, 10) < 22;
      const runs = [
        await execa(file, [], options),
        await execa("node", [module], options),
        ...(refused ? [] : [await execa("node", [file], options)]),
      ];
      for (const { stdout, stderr, exitCode } of runs) {
        const answered = stdout.startsWith('{"changed":false,"failed":true,"msg":"container must be') && stderr === "";
        if (!answered || exitCode !== 1)
          throw new Error(`Node ${version}, type ${type}: ${exitCode} ${stdout} ${stderr}`);
      }
    } finally {
      rmSync(parent, { recursive: true, force: true });
    }
  }
}

/** What a Node.js could do otherwise: streams, sockets, processes, files, signals. The rest is the program's own. */
const TESTS = ["publish", "socket", "watch"].map((name) => `test/program/${name}.test.ts`);

/** How the watcher's pace grows takes it more than a minute, and is the same by every Node.js. */
const BUT_SLOW = "^(?!.*again and again: that is reported once)";

const folders = new Map<string, string>();
for (const version of VERSIONS) {
  const folder = await nodeFolder(version);
  const { stdout } = await execa(join(folder, "node"), ["--version"]);
  if (stdout !== `v${version}`) throw new Error(`asked for Node ${version}, got ${stdout}`);
  await startAlone(version, folder);
  console.log(`Node ${version}: starts alone, and below a package.json of either type`);
  folders.set(version, folder);
}

// Mostly the watcher's tests wait, so both run at once.
const runs = [VERSIONS[0], VERSIONS.at(-1)].map(async (version = "") => {
  const options = { env: { PRODUCT_NODE: folders.get(version) }, stdin: "ignore", all: true, reject: false } as const;
  const { all, exitCode } = await execa("npx", ["vitest", "run", "--reporter=dot", "-t", BUT_SLOW, ...TESTS], options);
  console.log(`Node ${version}: the program's tests\n${all}`);
  return exitCode === 0;
});
if ((await Promise.all(runs)).includes(false)) process.exitCode = 1;
