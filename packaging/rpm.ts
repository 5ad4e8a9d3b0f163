// An .rpm, made by rpmbuild.

import { copyFile, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DESCRIPTION, type Entry, entriesOf, type Product, SUMMARY, source } from "./product.ts";
import { RESTART_WATCHER, TELL_WHAT_IS_LEFT } from "./scripts.ts";
import { stage } from "./stage.ts";
import { runTool } from "./tools.ts";

/** Returns the package's path, in `folder`. The same product gives the same bytes. Throws Error with rpmbuild's words. */
export async function makeRpm(product: Product, folder: string): Promise<string> {
  const licences = `/usr/share/licenses/${product.name}`;
  const entries: Entry[] = [
    ...(await entriesOf(product, { zsh: "/usr/share/zsh/site-functions", licences })),
    { path: `${licences}/LICENSE`, content: await source("LICENSE") },
    { path: `/usr/share/doc/${product.name}/CHANGELOG.md`, content: await source("CHANGELOG.md") },
  ];
  const draft = await mkdtemp(join(tmpdir(), "docker_iptables-rpm-"));
  try {
    await stage(entries, join(draft, "files"));
    const spec = join(draft, `${product.name}.spec`);
    await writeFile(spec, specOf(product, entries, join(draft, "files")));
    await mkdir(join(draft, "tmp"));
    const defined = { _topdir: join(draft, "top"), _tmppath: join(draft, "tmp"), _dbpath: join(draft, "db") };
    const options = Object.entries(defined).flatMap(([name, value]) => ["--define", `${name} ${value}`]);
    const target = ["--target", `${product.architecture.rpm}-linux`];
    const env = { SOURCE_DATE_EPOCH: String(product.time) };
    const built = await runTool("rpmbuild", ["-bb", ...target, ...options, spec], env);
    if (built.failed) throw new Error(`rpmbuild failed:\n${built.all}`);
    const made = join(draft, "top/RPMS", product.architecture.rpm);
    const [name = ""] = await readdir(made);
    await copyFile(join(made, name), join(folder, name));
    return join(folder, name);
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

const PAYLOADS = { xz: "w2T2.xzdio", none: "w.ufdio" };

/**
 * Fedora's, RHEL's and openSUSE's packages of Node.js provide nodejs(engine), which has no epoch; that of Fedora and RHEL makes nodejs 16
 * newer than 18.19. NodeSource's have the epoch 2. Of several versions beside each other, one alone has /usr/bin/node.
 */
const NODE = "(nodejs(engine) >= 18.19 or nodejs >= 2:18.19)";

/** Nothing is stripped: Bun keeps the program behind the sections of its executable. */
function specOf(product: Product, entries: readonly Entry[], files: string): string {
  const { name, other, version, isNative, architecture, time } = product;
  const date = new Date(time * 1000).toUTCString().replace(/^(\w+), (\d+) (\w+) (\d+).*/, "$1 $3 $2 $4");
  const listed = entries.map(({ path }) => {
    const kind = path.startsWith("/usr/share/doc/")
      ? "%doc "
      : path.startsWith("/usr/share/licenses/")
        ? "%license "
        : "";
    return `${kind}${path}`;
  });
  return `%global debug_package %{nil}
%global __os_install_post %{nil}
%global _build_id_links none
%global _buildhost reproducible
%global _binary_payload ${PAYLOADS[product.compression]}
%global use_source_date_epoch_as_buildtime 1
%global clamp_mtime_to_source_date_epoch 1

Name: ${name}
Version: ${version}
Release: 1
Summary: ${SUMMARY.charAt(0).toUpperCase()}${SUMMARY.slice(1)}
License: MIT
Group: System/Base
${isNative ? `ExclusiveArch: ${architecture.rpm}\nProvides: ${other} = %{version}-%{release}` : `BuildArch: noarch\nRequires: ${NODE}\nRequires: /usr/bin/node`}
Requires: (iptables or nftables)
Requires: util-linux
Recommends: conntrack-tools
Recommends: (docker-cli or docker-ce-cli or moby-engine or podman)
Conflicts: ${other}

%description
${DESCRIPTION.join("\n")}

This package has ${isNative ? "a native executable, which needs no Node.js." : "a script, which runs under Node.js."}

%install
cp -a ${files}/. %{buildroot}

%post
${RESTART_WATCHER}

%postun
if [ "$1" -eq 0 ]; then
${TELL_WHAT_IS_LEFT}
fi

%files
%defattr(-,root,root)
%dir /usr/share/doc/${name}
%dir /usr/share/doc/${name}/examples
%dir /usr/share/doc/${name}/examples/monitoring
%dir /usr/share/doc/${name}/examples/systemd
%dir /usr/share/licenses/${name}
${listed.join("\n")}

%changelog
* ${date} The docker_iptables authors <docker-iptables@authors.invalid> - ${version}-1
- Version ${version}: CHANGELOG.md says what is new.
`;
}
