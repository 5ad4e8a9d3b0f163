// `npm run build`: dist/docker_iptables, one executable file without dependencies, its manual pages, the licences of what it
// carries and a bill of materials; and the Ansible collection around it.
//
// The first lines of the executable make it run under every Node.js from 18.19, whatever package.json lies above it: a shell
// starts node with a require() of the file, because Node 18 and 20 refuse to run a file without an extension below
// `"type": "module"`. From Node 22 on, such a file is an ES module there; the last of these lines gives it a `require`, and
// the rest is valid as both.
// Nothing in the current directory is read, which may be another user's: an element of PATH that leads there (an empty or a
// relative one) is dropped before node is looked for, and the require() is the file's own, because that of `node -e` asks the
// package.json of the current directory, or of one above it, which file a path stands for (tried, 18 to 26).
// Ansible's copy is a .cjs, which needs none of that, and begins with the one line by which ansible_node_interpreter is
// obeyed: Ansible puts the variable in the place of /usr/bin/node, and would not of sh or env.
// WANT_JSON makes Ansible call either with the path of an arguments file.

import { chmod, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { originOf } from "./build-origin.ts";
import { bundle } from "./bundle.ts";
import { COLLECTION } from "./schema/ansible-docs.ts";
import { collectionFiles, galaxyYml, tarball, tarballName } from "./src/ansible/collection.ts";
import { manualText, type Page } from "./src/cli/manual.ts";
import { settingsManualText } from "./src/cli/settings-manual.ts";
import { scriptNotices } from "./src/notices/notices.ts";

const about = JSON.parse(await readFile(new URL("package.json", import.meta.url), "utf8"));

const EXECUTABLE = `#!/bin/sh
":" //; set -f; IFS=:; _path=; for _dir in $PATH; do case $_dir in /*) _path=$_path:$_dir ;; esac; done
":" //; PATH=\${_path:-:/usr/local/bin:/usr/bin:/bin}; PATH=\${PATH#:}; unset _path _dir
":" //; exec node -e 'var f = process.argv[1] = require("path").resolve(process.argv[1]); require("module").createRequire(f)(f)' -- "$0" "$@" # WANT_JSON
var require = typeof require === "function" ? require : process.getBuiltinModule("module").createRequire(process.argv[1]);
`;

const MODULE = `#!/usr/bin/node
// WANT_JSON
`;

const { program, bom } = await bundle(about.version, `${await originOf()}, script`);
const programs = { executable: `${EXECUTABLE}${program}`, module: `${MODULE}${program}`, notices: scriptNotices(bom) };
await put("dist/docker_iptables", programs.executable, true);
await put("dist/docker_iptables.1", manualText(about.version, await pages()));
await put("dist/docker_iptables.json.5", settingsManualText(about.version));
await put("dist/docker_iptables.LICENSES.txt", programs.notices);

// The tree is for ANSIBLE_COLLECTIONS_PATH, a playbook's library/, and ansible-galaxy's own build.
const files = await collectionFiles(programs);
const tree = join("dist/ansible_collections", COLLECTION.namespace, COLLECTION.name);
await rm("dist/ansible_collections", { recursive: true, force: true });
for (const { path, content = "", executable } of files) await put(join(tree, path), content, executable);
await put(join(tree, "galaxy.yml"), galaxyYml(about));
await put(join("dist", tarballName(about)), tarball(files, about));

/** Those of docs/ that are for users, by name. */
async function pages(): Promise<Page[]> {
  const names = (await readdir("docs")).filter((name) => name.endsWith(".md")).sort();
  return Promise.all(
    names.map(async (name) => {
      const [, title = ""] = /^# (.*)/m.exec(await readFile(join("docs", name), "utf8")) ?? [];
      return { path: `docs/${name}`, title };
    }),
  );
}

async function put(path: string, content: string | Buffer, executable = false): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, content);
  await chmod(path, executable ? 0o755 : 0o644);
}
