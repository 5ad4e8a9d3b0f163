/*
 * What people and other tools do with the executable, on a host: Salt's states, the recipes with jq of docs/doors.md, the shells'
 * completion, the manual page. Nothing of it is installed on the machine.
 */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect } from "vitest";
import { recipes } from "../recipes.ts";
import { example, hostByHand, ourRules } from "./fixtures.ts";
import type { Host } from "./host.ts";
import { applyState, readStates } from "./salt.ts";
import { storyWith } from "./story.ts";

/** The host's settings, and what it lists of all rules and of ours. */
const BACKENDS = {
  iptables: {
    settings: {},
    all: async (host: Host) => (await host.run("iptables-save")).stdout.replaceAll(/^#.*|\[.*\]$/gm, ""),
    ours: ourRules,
  },
  nft: {
    settings: { "/etc/docker_iptables.json": '{"backend": "nft"}\n' },
    all: async (host: Host) => (await host.run("nft", ["list", "ruleset"])).stdout,
    ours: async (host: Host) =>
      (await host.run("nft", ["list", "ruleset"])).stdout.match(/^.*comment "docker_iptables: \w.*$/gm) ?? [],
  },
};

describe.each(["iptables", "nft"] as const)("by %s", (backend) => {
  const { settings, all, ours } = BACKENDS[backend];
  storyWith({ packages: ["nftables"] })(
    "Salt: test=True, apply, test=True again, apply again; states as they stand in examples/salt",
    async ({ lab }) => {
      const host = await lab.host({ name: "web1", files: settings });
      await host.docker.run("old", { publish: ["8081:80"] });
      await host.docker.run("web", { publish: ["8080:80"] });
      const states = readStates(example("salt/docker_iptables.sls"));
      expect(states.map(({ id }) => id)).toEqual(["host is ready", "web is published", "old is unpublished"]);
      const [ready, published, unpublished] = states as [(typeof states)[0], (typeof states)[0], (typeof states)[0]];
      const untouched = await all(host);

      // All of a highstate is predicted on a host on which nothing has run yet.
      for (const [state, comment] of [
        [published, "would be published: web"],
        [unpublished, undefined],
      ] as const) {
        const predicted = await applyState(host, state, true);
        expect(predicted.result).not.toBe(false);
        if (comment !== undefined) expect(predicted).toMatchObject({ result: null, comment });
      }
      expect(await applyState(host, ready, true)).toMatchObject({ result: null, changes: { changed: true } });
      expect(await all(host)).toBe(untouched);
      expect(await applyState(host, ready)).toMatchObject({
        result: true,
        comment: expect.stringMatching(/^the host rules are set up/),
      });
      await host.run("docker_iptables", ["create", "old"]);

      for (const [state, done, again] of [
        [published, "published: web", "already published: web"],
        [unpublished, "unpublished: old", "old has no rules, nothing to do"],
      ] as const) {
        const before = await ours(host);
        expect(await applyState(host, state, true)).toMatchObject({ result: null, comment: `would be ${done}` });
        expect(await ours(host)).toEqual(before);
        const applied = await applyState(host, state);
        expect(applied).toMatchObject({
          result: true,
          comment: done,
          changes: { changed: true, stdout: "", retcode: 0 },
        });
        expect(applied.changes).toHaveProperty("files");
        expect(await applyState(host, state, true)).toEqual({ result: true, comment: again, changes: {} });
        expect(await applyState(host, state)).toEqual({ result: true, comment: again, changes: {} });
      }

      const [stdin] = readStates(example("salt/stdin.sls"));
      if (stdin === undefined) throw new Error("examples/salt/stdin.sls holds no state");
      expect(await applyState(host, stdin, true)).toMatchObject({ result: null, comment: /db/ });
      const failed = await applyState(host, stdin);
      expect(failed).toMatchObject({
        result: false,
        comment: expect.stringContaining("db does not exist"),
        changes: {},
      });
      await host.docker.run("db", { publish: ["5432:80"] });
      expect(await applyState(host, stdin)).toMatchObject({
        result: true,
        comment: "published: db; already published: web",
      });
      expect(await applyState(host, stdin)).toMatchObject({ result: true, changes: {} });
    },
  );
});

const shells = storyWith({ packages: ["jq", "zsh", "fish", "mandoc"] });

/** What a shell offers behind these words, sorted. */
async function offered(host: Host, shell: keyof typeof ASK, words: string): Promise<string[]> {
  const { stdout } = await host.run(shell, ["-c", ASK[shell](words)]);
  return stdout.split(/\r?\n/).filter(Boolean).sort();
}

const ASK = {
  bash: (words: string) => `
    source <(docker_iptables completion bash)
    read -ra COMP_WORDS <<< "${words}x"; COMP_CWORD=$((\${#COMP_WORDS[@]} - 1))
    COMP_WORDS[COMP_CWORD]=\${COMP_WORDS[COMP_CWORD]%x}
    $(complete -p docker_iptables | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
    printf '%s\\n' "\${COMPREPLY[@]}"`,
  fish: (words: string) => `
    docker_iptables completion fish | source
    complete -C '${words}' | cut -f 1`,
};

/** A person at zsh: the completed line is what the command is called with. */
const typeInZsh = (typed: string) => `
zmodload zsh/zpty
rm -f /tmp/ready /tmp/ran
zpty z zsh -f -i
zpty -w z 'autoload -U compinit; compinit -u -D; source /tmp/_docker_iptables; docker_iptables() { print -r -- \${(j: :)@} > /tmp/ran }; : > /tmp/ready'
until [[ -e /tmp/ready ]]; do zpty -r -t z shown; sleep 0.1; done
zpty -w -n z $'docker_iptables ${typed}\\n'
until [[ -s /tmp/ran ]]; do zpty -r -t z shown; sleep 0.1; done
zpty -d z
cat /tmp/ran
`;

shells("completion, manual page and recipes, with Debian's bash, zsh, fish, mandoc and jq", async ({ lab }) => {
  const host = await hostByHand(lab, { name: "web1" });
  await host.docker.run("web", { publish: ["8080:80"] });
  await host.docker.run("db", { publish: ["5432:80"] });
  await host.run("docker_iptables", ["create", "web"]);

  for (const shell of ["bash", "fish"] as const) {
    expect(await offered(host, shell, "docker_iptables cre")).toEqual(["create"]);
    expect(await offered(host, shell, "docker_iptables create ")).toEqual(["db", "web"]);
    expect(await offered(host, shell, "docker_iptables delete ")).toEqual(["web"]);
    expect(await offered(host, shell, "docker_iptables load ")).toEqual(["ipv4", "ipv6"]);
    expect(await offered(host, shell, "docker_iptables create web --reload re")).toEqual(["restore"]);
    expect(await offered(host, shell, "docker_iptables load --ch")).toEqual(["--check"]);
  }
  await host.run("sh", ["-c", "docker_iptables completion zsh > /tmp/_docker_iptables"]);
  await host.run("zsh", ["-n", "/tmp/_docker_iptables"]);
  for (const [typed, ran] of [
    ["cre\\td\\t", "create db"],
    ["delete \\t", "delete web"],
    ["create w\\t--reload=re\\t", "create web --reload=restore"],
  ] as const) {
    await host.write("/tmp/type.zsh", typeInZsh(typed));
    expect((await host.run("zsh", ["-f", "/tmp/type.zsh"])).stdout).toBe(`${ran}\n`);
  }

  const manual = fileURLToPath(new URL("../../dist/docker_iptables.1", import.meta.url));
  await host.write("/tmp/docker_iptables.1", readFileSync(manual, "utf8"));
  const lint = await host.run("mandoc", ["-Tlint", "-Wwarning", "/tmp/docker_iptables.1"], { check: false });
  expect(lint.stdout.replaceAll(/.*missing date.*\n/g, "")).toBe("");

  for (const { command, what } of recipes()) {
    const ran = await host.run("sh", ["-c", command], { check: false });
    expect([what, ran.exitCode, ran.stderr]).toEqual([what, 0, ""]);
    expect(ran.stdout, what).not.toMatch(/^(null)?\n?$/);
  }
});
