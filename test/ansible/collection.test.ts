// The built collection: its sums, modes and bytes; and what it says, held against the schemas and the examples.

import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { execa } from "execa";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import packageJson from "../../package.json" with { type: "json" };
import { moduleDocumentation, ROLE_VARIABLES, roleArguments } from "../../schema/ansible-docs.ts";
import args from "../../schema/arguments.schema.json" with { type: "json" };
import result from "../../schema/result.schema.json" with { type: "json" };
import { collectionFiles, EXAMPLES, INFO_EXAMPLES, tarball, tarballName } from "../../src/ansible/collection.ts";

const DIST = new URL("../../dist/", import.meta.url);
const TREE = new URL("ansible_collections/docker_iptables/host/", DIST);
const built = readFileSync(new URL(tarballName(packageJson), DIST));
const read = (path: string) => readFileSync(new URL(path, TREE), "utf8");
const sha256 = (content: string | Buffer) => createHash("sha256").update(content).digest("hex");
const programs = {
  executable: read("roles/docker_iptables/files/docker_iptables"),
  module: read("plugins/modules/docker_iptables.cjs"),
  notices: read("LICENSES.txt"),
};

/** One file of the tarball. */
async function member(path: string): Promise<string> {
  const { stdout } = await execa("tar", ["-xzO", path], { input: built, stripFinalNewline: false });
  return stdout;
}

describe("the tarball", () => {
  test("MANIFEST.json has the sum of FILES.json, which has those of all files", async () => {
    const manifest = JSON.parse(await member("MANIFEST.json"));
    const list = await member("FILES.json");
    expect(manifest.file_manifest_file.chksum_sha256).toBe(sha256(list));
    const { files } = JSON.parse(list) as { files: { name: string; ftype: string; chksum_sha256: string | null }[] };
    const { stdout } = await execa("tar", ["-tz"], { input: built });
    expect([".", ...stdout.split("\n").slice(2)]).toEqual(files.map(({ name }) => name));
    for (const { name, ftype, chksum_sha256 } of files) {
      expect([name, chksum_sha256]).toEqual([name, ftype === "dir" ? null : sha256(readFileSync(new URL(name, TREE)))]);
    }
  });

  test("its name and version are valid for Galaxy, and the package's", async () => {
    const { collection_info } = JSON.parse(await member("MANIFEST.json"));
    expect(collection_info).toMatchObject({ version: packageJson.version, license: [packageJson.license] });
    expect(`${collection_info.namespace}.${collection_info.name}`).toMatch(/^[a-z][a-z0-9_]+\.[a-z][a-z0-9_]+$/);
  });

  test("the same files give the same bytes", async () => {
    expect(tarball(await collectionFiles(programs), packageJson).equals(built)).toBe(true);
  });

  test("the programs alone are executable", async () => {
    const files = await collectionFiles(programs);
    const executable = files.filter((file) => file.executable).map(({ path }) => path);
    expect(executable).toEqual([
      "plugins/modules/docker_iptables.cjs",
      "plugins/modules/docker_iptables_info.cjs",
      "roles/docker_iptables/files/docker_iptables",
    ]);
    for (const { path, executable = false } of files) {
      expect([path, statSync(new URL(path, TREE)).mode & 0o777]).toEqual([path, executable ? 0o755 : 0o644]);
    }
  });
});

describe("the module, as Ansible classifies it", () => {
  test("no control character in its first 1024 bytes, and WANT_JSON after an interpreter that can be another", () => {
    const text = programs.module;
    expect(text.slice(0, 1024)).not.toMatch(/[^\P{Cc}\n\r\t]/u);
    expect(text).toMatch(/^#!\/usr\/bin\/node\n\/\/ WANT_JSON\n/);
    expect(text).not.toMatch(/ansible[._]module_utils|AnsibleModule/);
  });

  test("run by node, below a package.json of ES modules", async () => {
    const path = new URL("plugins/modules/docker_iptables.cjs", TREE).pathname;
    const { stdout, stderr } = await execa(process.execPath, [path], { input: '{"state": "gone"}', reject: false });
    expect([JSON.parse(stdout).msg, stderr]).toEqual(["value of state must be one of: present, absent, got: gone", ""]);
  });
});

describe("what it says", () => {
  const { DOCUMENTATION, EXAMPLES: examples, RETURN } = parse(read("plugins/modules/docker_iptables.yml"));
  const INFO = parse(read("plugins/modules/docker_iptables_info.yml"));

  test("the built documentation is the schemas'", () => {
    const texts = EXAMPLES.map((path) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8"));
    expect(read("plugins/modules/docker_iptables.yml")).toBe(moduleDocumentation(texts));
    expect(read("roles/docker_iptables/meta/argument_specs.yml")).toBe(roleArguments());
  });

  test("every argument, with an alias, a list's elements, choices and a path", () => {
    expect(Object.keys(DOCUMENTATION.options)).toEqual(Object.keys(args.properties));
    expect(DOCUMENTATION.options).toMatchObject({
      container: { type: "list", elements: "str", aliases: ["name"] },
      state: { type: "str", choices: ["present", "absent"], default: "present" },
      guards: { type: "bool", default: true },
      iptables_dir: { type: "path", default: "/etc/iptables.d" },
      timeout: { type: "int", default: 10 },
    });
    expect(DOCUMENTATION.options.docker_host).not.toHaveProperty("default");
    expect(DOCUMENTATION.options.container.description).toContain("C(base)");
  });

  test("every key of the result, but those of verbs that are no module's, and of Bolt", () => {
    const keys = Object.keys(result.properties);
    expect(keys.filter((key) => !(key in RETURN))).toEqual(["explained", "status", "problems", "last_load", "_error"]);
    expect(RETURN.containers).toMatchObject({ type: "list", elements: "dict", contains: { name: { type: "str" } } });
    for (const value of Object.values<{ returned: string; description: string }>(RETURN)) {
      expect([value.returned, value.description]).not.toContain(undefined);
    }
  });

  test("every playbook of examples/ is in it, and each uses full names only", () => {
    const names = readdirSync(new URL("../../examples/ansible/", import.meta.url)).filter(
      (name) => name !== "inventory.yml",
    );
    const shown = [...EXAMPLES, ...INFO_EXAMPLES].map((path) => path.replace("examples/ansible/", ""));
    expect(shown.sort()).toEqual(names.sort());
    const plays: Play[] = [...parse(examples), ...parse(INFO.EXAMPLES)];
    expect(plays).toHaveLength(names.length);
    for (const task of plays.flatMap(({ tasks = [] }) => tasks)) {
      expect(Object.keys(task).some((key) => key.split(".").length === 3)).toBe(true);
    }
  });

  test("the module that only asks has the arguments of questions, and their answers", () => {
    const { options } = INFO.DOCUMENTATION;
    expect(options.query).toMatchObject({ choices: ["status", "ls", "explain"], default: "status" });
    for (const name of ["state", "base", "all", "watch", "adopt"]) expect(options).not.toHaveProperty(name);
    expect(Object.keys(INFO.RETURN)).toEqual(
      expect.arrayContaining(["status", "problems", "last_load", "published", "explained", "msg"]),
    );
    expect(INFO.RETURN.problems.contains).toMatchObject({ kind: {}, msg: {}, hint: {} });
  });

  test("ansible-test has a list for each version, and each entry is about a file that there is", () => {
    const lists = readdirSync(new URL("tests/sanity/", TREE));
    const minors = lists.map((name) => Number(/^ignore-2\.(\d+)\.txt$/.exec(name)?.[1]));
    expect(minors.sort((a, b) => a - b)).toEqual(Array.from({ length: minors.length }, (_, index) => 14 + index));
    expect(minors.at(-1)).toBeGreaterThanOrEqual(22);
    for (const minor of minors) {
      const lines = read(`tests/sanity/ignore-2.${minor}.txt`).trim().split("\n");
      for (const line of lines)
        expect([line, existsSync(new URL(line.split(" ")[0] ?? "", TREE))]).toEqual([line, true]);
      // Another version would report the entry as one that it does not need.
      const errors = lines.filter((line) => line.endsWith("validate-modules:python-syntax-error"));
      expect([minor, errors.length]).toEqual([minor, minor <= 16 ? 2 : 0]);
    }
  });

  test("the role looks for the executable in files/, which ansible-core 2.19 no longer does by itself", () => {
    const tasks: { vars?: Record<string, unknown> }[] = parse(read("roles/docker_iptables/tasks/main.yml"));
    const lookups = tasks.flatMap(({ vars }) => vars?.["docker_iptables_executables"] ?? []);
    expect(lookups).toEqual([{ files: [expect.stringContaining("-linux-"), "docker_iptables"], paths: ["files"] }]);
  });

  test("the role hands on every variable that its argument_specs name", () => {
    const tasks: Record<string, Record<string, string>>[] = parse(read("roles/docker_iptables/tasks/main.yml"));
    const { base, container, ...handedOn } = tasks.at(-1)?.["docker_iptables.host.docker_iptables"] ?? {};
    expect([base, container]).toEqual([true, "{{ docker_iptables_containers | default(omit, true) }}"]);
    expect(Object.keys(handedOn).sort()).toEqual(ROLE_VARIABLES.map(([, name]) => name).sort());
    for (const [variable, name] of ROLE_VARIABLES) expect(handedOn[name]).toContain(`${variable} | default(omit)`);
  });
});

interface Play {
  tasks?: object[];
}
