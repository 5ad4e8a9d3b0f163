// systemd, as fakes/systemctl has it: its units load the directories beside $FAKE.

import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Answer, type Asked, type Fake, namesIn, noteCall, textAt } from "./fake-call.ts";
import { isFakeRestore, load } from "./fake-iptables.ts";

export function systemctl(asked: Asked): ReturnType<Fake> {
  const { args, folder, path } = asked;
  const [verb = ""] = args;
  const unit = args.at(-1) ?? "";
  const at = (kind: string) => join(folder, kind, unit);
  switch (verb) {
    case "is-system-running":
      return { stdout: readFileSync(join(folder, "system-state")) };
    case "show-environment":
      return { stdout: `PATH=${path}\n` };
    case "is-active":
      return existsSync(at("active")) ? { stdout: "active\n" } : { stdout: "inactive\n", exitCode: 3 };
    case "show":
      return show(asked, unit);
    case "daemon-reload":
      return daemonReload(folder);
    case "enable":
      if (!existsSync(at("known"))) return { exitCode: 1, stderr: `Unit file ${unit} does not exist.\n` };
      return effect(() => writeFileSync(at("enabled"), ""));
    case "disable":
      return effect(() => rmSync(at("enabled"), { force: true }));
    case "reset-failed":
      return effect(() => rmSync(join(folder, "start-limit"), { force: true }));
    case "stop":
      return effect(() => rmSync(at("active"), { force: true }));
  }
  return /^(--job-mode=\S+ )?(reload|restart|start) /.test(args.join(" ")) ? start(asked, unit) : undefined;
}

/** As fakes/systemd-run has it. */
export function systemdRun({ args, folder }: Asked): ReturnType<Fake> {
  const unit = args.find((word) => word.startsWith("--unit="))?.replace("--unit=", "") ?? "";
  return effect(() => writeFileSync(join(folder, "active", `${unit}.timer`), ""));
}

function effect(change: () => void): () => Answer {
  return () => {
    change();
    return {};
  };
}

function show({ args, folder }: Asked, unit: string): Answer | undefined {
  if (args.some((word) => word.startsWith("--property=Result")))
    return { stdout: `Result=${existsSync(join(folder, "start-limit")) ? "start-limit-hit" : "success"}\n` };
  if (args.join(" ") === "show --property=UnitPath")
    return { stdout: `UnitPath=/run/systemd/transient ${unitDirOf(folder)} /lib/systemd/system\n` };
  const known = textAt(join(folder, "known", unit));
  const loaded = textAt(join(folder, "units", unit));
  if (loaded !== undefined || known === undefined) return { stdout: loaded ?? "LoadState=not-found\n" };
  const is = (state: string) => existsSync(join(folder, state, unit));
  const lines = [
    "LoadState=loaded",
    `FragmentPath=${join(unitDirOf(folder), unit)}`,
    ...known.split("\n").filter((line) => /^Exec(Start|Reload)=/.test(line)),
    `ActiveState=${is("active") ? "active" : "inactive"}`,
    `UnitFileState=${is("enabled") ? "enabled" : "disabled"}`,
    "CanReload=yes",
  ];
  return { stdout: lines.map((line) => `${line}\n`).join("") };
}

function unitDirOf(folder: string): string {
  return join(dirname(folder), "etc/systemd/system");
}

function daemonReload(folder: string): ReturnType<Fake> {
  const [units, known] = [unitDirOf(folder), join(folder, "known")];
  if (!existsSync(units) || !readdirSync(units, { withFileTypes: true }).every((entry) => entry.isFile()))
    return undefined;
  return effect(() => {
    rmSync(known, { recursive: true, force: true });
    mkdirSync(known);
    for (const name of readdirSync(units)) copyFileSync(join(units, name), join(known, name));
  });
}

/** A reload or a restart. */
function start(asked: Asked, unit: string): ReturnType<Fake> {
  const { folder } = asked;
  if (!["units", "known"].some((kind) => existsSync(join(folder, kind, unit))))
    return { exitCode: 5, stderr: `Unit ${unit} not found.\n` };
  if (asked.args[0] === "start" && existsSync(join(folder, "active", unit))) return {};
  const loads = loadsOf(unit);
  if (existsSync(join(folder, "start-limit")) || !loads.every(([restore]) => isFakeRestore(restore, asked)))
    return undefined;
  return () => {
    for (const [restore, directory] of loads) {
      noteCall(folder, restore, []);
      const text = assembled(join(dirname(folder), directory));
      const { exitCode, stderr = "" } = load({ ...asked, name: restore, args: [] }, text);
      if (exitCode) return { exitCode: 1, stderr };
    }
    writeFileSync(join(folder, "active", unit), "");
    return {};
  };
}

function loadsOf(unit: string): [restore: string, directory: string][] {
  const ipv4: [string, string] = ["iptables-restore", "iptables.d"];
  const ipv6: [string, string] = ["ip6tables-restore", "ip6tables.d"];
  if (unit === "docker_iptables-watch.service") return [];
  return unit.startsWith("ip6") ? [ipv6] : unit.startsWith("iptables") ? [ipv4] : [ipv4, ipv6];
}

/** A directory's fragments as one text. */
function assembled(directory: string): string {
  const tables = new Map<string, string>();
  let table = "";
  const text = namesIn(directory)
    .map((name) => textAt(join(directory, name)) ?? "")
    .join("");
  for (const line of text.split("\n")) {
    if (line.startsWith("*")) {
      table = line;
      tables.set(table, tables.get(table) ?? "");
    } else if (line !== "" && !/^(COMMIT|#)/.test(line)) tables.set(table, `${tables.get(table)}${line}\n`);
  }
  const given = [...tables].map(([name, rules]) => `${name}\n${rules}COMMIT\n`).join("");
  return `*raw\nCOMMIT\n*nat\nCOMMIT\n*filter\nCOMMIT\n${given}`;
}
