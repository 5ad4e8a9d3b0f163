/*
 * What `ansible-test sanity` says of the built collection: it passes only where the list of its own version, tests/sanity/ignore-2.NN.txt,
 * has each entry that is needed, and no other.
 */

import { expect } from "vitest";
import { addUser, asUser, installCollection, patience } from "./ansible.ts";
import { storyWith } from "./story.ts";

/**
 * ansible-test, whose tests get the packages of Debian where it would fetch its own. The parser of markup in documentation is in no
 * package of Debian's: this one finds none, so that markup is not checked.
 */
const WITH_DEBIANS_PACKAGES = `
import os, subprocess, sys
import ansible_test._internal.commands.sanity as sanity
from ansible_test._internal import main

def create(args, python, path, *others, **more):
    subprocess.check_call([python.path, "-m", "venv", "--system-site-packages", "--without-pip", path])
    folder = os.path.join(path, "lib", "python" + python.version, "site-packages", "antsibull_docs_parser")
    os.makedirs(folder)
    for name, text in {
        "__init__": "",
        "dom": "def __getattr__(name):\\n    return lambda **words: None\\n",
        "parser": "Context = dict\\n\\ndef parse(*words, **more):\\n    return []\\n",
    }.items():
        with open(os.path.join(folder, name + ".py"), "w") as file:
            file.write(text)
    return True

sanity.create_virtual_environment = create
sanity.run_pip = lambda *words, **more: None
sys.argv[0] = "/usr/bin/ansible-test"
main()
`;

/** They are about changelogs, PowerShell and Python, of which the collection has none, and need more packages. */
const NOT_OURS = ["changelog", "pslint", "pylint"];

storyWith({ packages: ["ansible-core", "python3-voluptuous", "yamllint"] })(
  "ansible-test finds what its list says, and nothing else",
  patience,
  async ({ lab }) => {
    const host = await lab.host({ name: "tested", docker: { atBoot: false } });
    await addUser(host);
    await installCollection(host);
    const folder = "/home/ops/tree/ansible_collections";
    await asUser(host, ["mkdir", "-p", folder]);
    await asUser(host, ["cp", "-r", "/home/ops/.ansible/collections/ansible_collections/docker_iptables", folder]);
    await host.write("/srv/sanity.py", WITH_DEBIANS_PACKAGES);
    const tree = `${folder}/docker_iptables/host`;
    const sanity = async (...more: string[]) => {
      const skipped = NOT_OURS.flatMap((test) => ["--skip-test", test]);
      const words = ["env", "-C", tree, "python3", "/srv/sanity.py", "sanity", "--color", "no"];
      const { exitCode, stdout, stderr } = await asUser(host, [...words, ...(more.length > 0 ? more : skipped)]);
      return { exitCode, output: stdout + stderr };
    };
    const examined = await sanity();
    expect([examined.exitCode, examined.exitCode === 0 ? "" : examined.output]).toEqual([0, ""]);
    for (const test of ["validate-modules", "shebang", "no-smart-quotes", "runtime-metadata", "yamllint"]) {
      expect(examined.output).toContain(`Running sanity test "${test}"`);
    }

    // It does look: without the list it finds each module.
    await host.run("find", [`${tree}/tests/sanity`, "-name", "ignore-*", "-delete"]);
    const bare = await sanity("--test", "validate-modules", "--test", "shebang", "--test", "no-smart-quotes");
    expect(bare.exitCode).toBe(1);
    for (const name of ["docker_iptables", "docker_iptables_info"]) {
      expect(bare.output).toContain(`plugins/modules/${name}.cjs:0:0: invalid-extension`);
      expect(bare.output).toContain(`plugins/modules/${name}.yml:0:0: missing-gplv3-license`);
      expect(bare.output).toContain(`plugins/modules/${name}.cjs:0:0: expected module extension`);
    }
    expect(bare.output).toMatch(/LICENSES\.txt:\d+:\d+: use ASCII quotes/);
  },
);
