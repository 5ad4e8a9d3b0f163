// rpmbuild, lintian and rpmlint: Debian's packages, unpacked into .cache and run from there. Nothing is installed.

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { execa, type Result } from "execa";
import { unpackedRoot } from "../test/lab/packages.ts";

export type Tool = "lintian" | "rpm" | "rpmbuild" | "rpmlint";

const PACKAGES: Record<Tool, readonly string[]> = {
  lintian: ["lintian"],
  rpm: ["rpm", "rpmlint"],
  rpmbuild: ["rpm", "rpmlint"],
  rpmlint: ["rpm", "rpmlint"],
};

/** Runs one of them to its end, and returns what it printed with its exit status. */
export async function runTool(
  tool: Tool,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Result<{ all: true; reject: false }>> {
  const root = await unpackedRoot(PACKAGES[tool]);
  const program = join(root, "usr/bin", tool);
  const command = tool === "rpmlint" ? ["python3", program] : [program];
  return execa(command[0] ?? "", [...command.slice(1), ...args], {
    all: true,
    reject: false,
    env: { ...environmentOf(root), LC_ALL: "C.UTF-8", ...env },
  });
}

/** Where its libraries, modules and macros are. */
function environmentOf(root: string): Record<string, string> {
  const libraries = below(join(root, "usr/lib"), /-linux-gnu/);
  const modules = libraries.flatMap((library) => below(join(library, "perl5"), /^5\./));
  return {
    PATH: `${join(root, "usr/bin")}:${process.env["PATH"]}`,
    LD_LIBRARY_PATH: [...libraries, ...below(join(root, "lib"), /-linux-gnu/)].join(":"),
    PERL5LIB: [join(root, "usr/share/perl5"), ...modules].join(":"),
    PYTHONPATH: join(root, "usr/lib/python3/dist-packages"),
    RPM_CONFIGDIR: join(root, "usr/lib/rpm"),
  };
}

function below(folder: string, pattern: RegExp): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => pattern.test(name))
      .map((name) => join(folder, name));
  } catch {
    return [];
  }
}
