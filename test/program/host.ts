// A host made of files: fragment directories, and fake clients on PATH that keep their state in a folder.
// The built executable runs in it as it would on a real one. It needs neither root nor docker.

import {
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { afterAll, expect } from "vitest";
import type { ErrorCode, Result } from "../../src/generated/result.ts";
import { validate } from "../../src/generated/validate-result.js";
import { SHARED_LOCKS } from "./fakes-in-process.ts";
import { runInProcess } from "./in-process.ts";
import { type Addresses, textsOf } from "./interfaces.ts";

// Independent of the developer's own: with 002 all that tests write would be untrusted.
process.umask(0o022);

const FAKES = fileURLToPath(new URL("fakes", import.meta.url));
const EXECUTABLE = resolve(
  process.env["DOCKER_IPTABLES"] ?? fileURLToPath(new URL("../../dist/docker_iptables", import.meta.url)),
);
/** Why a test that reaches into Node.js is left out: the native executable has none. Undefined where it is not. */
export const NATIVE = /-linux-(x64|arm64)$/.test(EXECUTABLE) ? "the native executable has no NODE_OPTIONS" : undefined;

let startsProcesses = NATIVE !== undefined || process.env["PRODUCT_NODE"] !== undefined;

/** For a file of tests: each run of the executable is a process of its own (see in-process.ts). */
export function startProcesses(): void {
  startsProcesses = true;
}

/** NODE_OPTIONS by which the executable loads these of fakes/ on its start, and what every fake host has. */
export function nodeOptions(...hooks: string[]): string {
  return ["machine", ...hooks].map((name) => `--require "${join(FAKES, name)}.cjs"`).join(" ");
}

/** The host rules that the original's README has a reader write by hand. */
export const BASE = `*nat
:DOCKER_CONTAINERS - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER_CONTAINERS
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER_CONTAINERS
-A POSTROUTING -s 172.17.0.0/16 ! -o lo -j MASQUERADE
COMMIT
*filter
-A FORWARD -o lo -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
`;

export interface Answered {
  exitCode: number;
  stdout: string;
  stderr: string;
}

/** The loopback interface is used as the bridge: it is the one that every machine has. */
export const BRIDGE = "lo";

interface ContainerOptions {
  ports?: Record<string, { HostIp: string; HostPort: string }[] | null>;
  address?: string;
  address6?: string;
  status?: string;
}

export class FakeHost {
  readonly root = mkdtempSync(join(tmpdir(), "docker_iptables-test-"));
  readonly fake = join(this.root, "fake");
  readonly bin = join(this.root, "bin");
  readonly iptablesDir = join(this.root, "iptables.d");
  readonly ip6tablesDir = join(this.root, "ip6tables.d");
  readonly unitDir = join(this.root, "etc/systemd/system");
  readonly settingsPath = join(this.root, "docker_iptables.json");
  /** What a test adds to the executable's environment. */
  readonly environment: Record<string, string> = {};

  constructor() {
    for (const name of [
      ...["containers", "networks", "images", "units", "enabled", "active", "known", "flows"],
      ...["kernel/ipv4", "kernel/ipv6", "legacy/ipv4", "legacy/ipv6"],
    ]) {
      mkdirSync(join(this.fake, name), { recursive: true });
    }
    for (const path of [this.bin, this.iptablesDir, this.ip6tablesDir, this.unitDir])
      mkdirSync(path, { recursive: true });
    for (const name of [
      "docker",
      "systemctl",
      "systemd-run",
      "unshare",
      "nft",
      "noflush.awk",
      "restore.awk",
      "conntrack",
    ])
      this.install(name);
    for (const name of ["iptables", "ip6tables"]) this.install("iptables", name);
    for (const command of ["save", "restore"]) {
      for (const name of ["iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy"])
        this.install(`iptables-${command}`, `${name}-${command}`);
    }
    writeFileSync(join(this.fake, "system-state"), "running\n");
    this.interfaces({ lo: ["127.0.0.1/8", "::1/128"] });
    // Every fake logs its call, then runs what a test has put in its way.
    const prelude = `name=\${0##*/}
# Of a trial only that it is one: what it runs in its namespace is a script of several lines.
if [ "$name $1" = "unshare --net" ]; then echo "$name $1" >> "$FAKE/calls"; elif [ -z "$TRIAL" ]; then printf '%s\\n' "$name $*" >> "$FAKE/calls"; fi
if [ -z "$TRIAL" ] && [ -e "$FAKE/on-$name" ]; then . "$FAKE/on-$name"; fi
`;
    writeFileSync(join(this.fake, "prelude.sh"), prelude);
    this.unit("iptables.service", this.iptablesDir);
    this.unit("ip6tables.service", this.ip6tablesDir);
    this.network("bridge", { Options: { "com.docker.network.bridge.name": BRIDGE } });
    this.write("10_docker", BASE);
    this.write(
      "10_docker",
      BASE.replaceAll("127.0.0.0/8", "::1/128").replace("172.17.0.0/16", "fd00::/64"),
      this.ip6tablesDir,
    );
  }

  install(fake: string, as = fake): void {
    copyFileSync(join(FAKES, fake), join(this.bin, as));
  }

  /** Shell that a fake runs first; it may `exit`. */
  on(fake: string, script: string): void {
    writeFileSync(join(this.fake, `on-${fake}`), script);
  }

  /** A file of the host's kernel or its daemons (fakes/machine.cjs says which), e.g. "/proc/sys/net/ipv4/ip_forward". */
  machine(path: string, text: string): void {
    const file = join(this.fake, "machine", path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  }

  /** All network interfaces of the host. */
  interfaces(all: Addresses): void {
    for (const [path, text] of Object.entries(textsOf(all))) this.machine(path, text);
  }

  unit(name: string, directory: string, properties: Record<string, string> = {}): void {
    const all = {
      LoadState: "loaded",
      ActiveState: "active",
      CanReload: "yes",
      UnitFileState: "enabled",
      FragmentPath: `/lib/systemd/system/${name}`,
      ExecStart: `{ path=/usr/local/bin/docker_iptables ; argv[]=/usr/local/bin/docker_iptables load --iptables-dir ${directory} ; }`,
      ...properties,
    };
    const lines = Object.entries(all).map(([key, value]) => `${key}=${value}\n`);
    writeFileSync(join(this.fake, "units", name), lines.join(""));
  }

  container(
    name: string,
    { ports = {}, address = "172.17.0.2", address6 = "", status = "running" }: ContainerOptions = {},
  ): void {
    const document = {
      Id: Buffer.from(name.padEnd(32, "\0")).toString("hex"),
      Name: `/${name}`,
      State: { Status: status, Running: status === "running", Restarting: false },
      HostConfig: { NetworkMode: "default" },
      NetworkSettings: {
        Bridge: "",
        Ports: ports,
        Networks: {
          bridge: { NetworkID: "bridge", IPAddress: address, GlobalIPv6Address: address6, Gateway: "172.17.0.1" },
        },
      },
    };
    this.document(name, document);
  }

  document(name: string, document: unknown): void {
    writeFileSync(join(this.fake, "containers", `${name}.json`), JSON.stringify(document));
  }

  /** What the client has for an image. */
  image(id: string, labels: Record<string, string> = {}): void {
    const document = { Id: `sha256:${id}`, RepoTags: [], Config: { Labels: labels } };
    writeFileSync(join(this.fake, "images", `${id}.json`), JSON.stringify(document));
  }

  /** The text that the client has for a container. */
  documentOf(name: string): string {
    return readFileSync(join(this.fake, "containers", `${name}.json`), "utf8");
  }

  network(name: string, document: Record<string, unknown>): void {
    const whole = { Name: name, Id: name, Driver: "bridge", Internal: false, Options: {}, ...document };
    writeFileSync(join(this.fake, "networks", `${name}.json`), JSON.stringify(whole));
  }

  write(name: string, text: string, directory = this.iptablesDir): void {
    writeFileSync(join(directory, name), text);
  }

  /** The text of a container's fragment, or undefined. */
  fragment(container: string, directory = this.iptablesDir): string | undefined {
    const path = join(directory, `11-docker-container_${container}`);
    return existsSync(path) ? readFileSync(path, "utf8") : undefined;
  }

  /** The names in a directory, without the list of this boot's fragments. */
  names(directory: string): string[] {
    return readdirSync(directory).filter((name) => !/^\.docker_iptables($|\.(boot|lock|load)$)/.test(name));
  }

  /** A host that is not set up: no directories, no services, the executable on PATH. */
  bare(): this {
    for (const path of [this.iptablesDir, this.ip6tablesDir, join(this.fake, "units")])
      rmSync(path, { recursive: true, force: true });
    mkdirSync(join(this.fake, "units"));
    symlinkSync(EXECUTABLE, join(this.bin, "docker_iptables"));
    return this;
  }

  /** As a host that was set up before there were settings: nothing is a default of its later calls. */
  forgetSettings(): void {
    rmSync(this.settingsPath, { force: true });
  }

  /** One table as the fake kernel has it. */
  kernel(table: string, family = "ipv4"): string {
    const path = join(this.fake, "kernel", family, table);
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  }

  setKernel(table: string, text: string, family = "ipv4"): void {
    writeFileSync(join(this.fake, "kernel", family, table), text);
  }

  flush(table: string, family = "ipv4"): void {
    rmSync(join(this.fake, "kernel", family, table), { force: true });
  }

  /** The kernel's flows, each a line of conntrack's. */
  flows(family = "ipv4"): string[] {
    const path = join(this.fake, "flows", family);
    return existsSync(path) ? readFileSync(path, "utf8").split("\n").filter(Boolean) : [];
  }

  setFlows(lines: readonly string[], family = "ipv4"): void {
    writeFileSync(join(this.fake, "flows", family), lines.map((line) => `${line}\n`).join(""));
  }

  /** The command lines of the fakes since the last time this was asked. For when nothing runs. */
  calls(): string[] {
    const calls = this.callsSoFar();
    rmSync(join(this.fake, "calls"), { force: true });
    return calls;
  }

  /** The same, and they stay: while something runs none is removed. */
  callsSoFar(): string[] {
    const path = join(this.fake, "calls");
    return existsSync(path) ? readFileSync(path, "utf8").trim().split("\n") : [];
  }

  /** Everything under both directories but the empty lock files, and the kernel: for before and after. */
  state(): Record<string, string> {
    const state: Record<string, string> = {};
    for (const folder of this.folders()) {
      for (const name of existsSync(folder) ? readdirSync(folder) : []) {
        if (/^\.docker_iptables($|\.(lock|load)$)/.test(name)) continue;
        state[`${basename(dirname(folder))}/${basename(folder)}/${name}`] = contentsOf(join(folder, name));
      }
    }
    return state;
  }

  /** Where what `state()` says lies. */
  folders(): string[] {
    return [
      this.iptablesDir,
      this.ip6tablesDir,
      join(this.fake, "kernel/ipv4"),
      join(this.fake, "kernel/ipv6"),
      join(this.fake, "legacy/ipv4"),
      join(this.fake, "legacy/ipv6"),
      join(this.root, "var", "docker_iptables"),
      this.unitDir,
      join(this.fake, "enabled"),
    ];
  }

  /** Brings a host to what `state()` said of another one. */
  put(state: Record<string, string>): void {
    for (const [name, text] of Object.entries(state)) {
      const base = name.startsWith("kernel/") ? this.fake : this.root;
      writeFileSync(join(base, name.replace(/^docker_iptables-test-[^/]*\//, "")), text);
    }
  }

  /** What a boot does: both services load their directories. The fake kernel then has the host rules. */
  async boot(): Promise<void> {
    for (const unit of ["iptables.service", "ip6tables.service"]) {
      await execa(join(this.bin, "systemctl"), ["restart", unit], { ...this.options(), reject: true });
    }
    this.calls();
  }

  /** Runs the executable with arguments, and perhaps stdin and more environment. */
  async run(
    argv: readonly string[],
    stdin?: string | Uint8Array,
    env: Readonly<Record<string, string>> = {},
  ): Promise<Answered> {
    const own = this.options();
    const options = { ...own, env: { ...own.env, ...env } };
    if (!startsProcesses) return runInProcess(this.program, { ...options, argv, input: stdin ?? "" });
    return this.start(argv, stdin, env);
  }

  /** The same, in a process of its own in any case: for what hangs on that (in-process.ts). */
  async start(
    argv: readonly string[],
    stdin?: string | Uint8Array,
    env: Readonly<Record<string, string>> = {},
  ): Promise<Answered> {
    const own = this.options();
    const options = { ...own, env: { ...own.env, ...env } };
    const result = await execa(this.executable, argv, {
      ...options,
      ...(stdin === undefined ? { stdin: "ignore" } : { input: stdin }),
    });
    return { exitCode: result.exitCode ?? -1, stdout: result.stdout, stderr: result.stderr };
  }

  /** Runs shell with the executable as $EXE, its JSON as $JSON: for closed descriptors, mounts and limits. */
  async shell(script: string, given: Record<string, unknown> = {}): Promise<Answered> {
    this.sharesLocks();
    const { env, ...options } = this.options();
    const more = { EXE: EXECUTABLE, JSON: JSON.stringify(this.args(given)), DIR: this.iptablesDir };
    const result = await execa("/bin/sh", ["-c", script], { ...options, env: { ...env, ...more }, stdin: "ignore" });
    return { exitCode: result.exitCode ?? -1, stdout: result.stdout, stderr: result.stderr };
  }

  /** How to start the executable oneself, for tests that send signals. */
  options() {
    // The fakes, then what run.ts names of the machine's: a fake that is removed is missing.
    const path = `${this.bin}:${process.env["PATH"]}`;
    // A context: so the fake client is asked, and never the Docker daemon of whoever runs the tests.
    const own = { PATH: path, FAKE: this.fake, DIRS: this.root, HOME: this.root, DOCKER_CONTEXT: "fake" };
    const env: Record<string, string> = {
      ...own,
      DOCKER_IPTABLES_CONFIG: this.settingsPath,
      NODE_OPTIONS: nodeOptions(),
      ...this.environment,
    };
    // A run that hangs must not keep its locks, or the tests that run at the same time would fail, too. One that only is slow may
    // take its time.
    return {
      env,
      extendEnv: false,
      reject: false,
      cwd: this.root,
      stripFinalNewline: false,
      timeout: 300_000,
      killSignal: "SIGKILL",
    } as const;
  }

  /** For who starts it. */
  get executable(): string {
    this.sharesLocks();
    return EXECUTABLE;
  }

  /** For a run within the tests' process. */
  get program(): string {
    return EXECUTABLE;
  }

  /** Other processes than the tests' own may take this host's locks: then they are the kernel's. */
  sharesLocks(): void {
    writeFileSync(join(this.fake, SHARED_LOCKS), "");
  }

  /** The arguments that name this host's directories, and those given. */
  args(given: Record<string, unknown>): Record<string, unknown> {
    return {
      iptables_dir: this.iptablesDir,
      ip6tables_dir: this.ip6tablesDir,
      wait_timeout: 0,
      timeout: 120,
      ...given,
    };
  }

  /** Door 1: JSON in, JSON out. Checks what holds for every answer. */
  async ask(given: Record<string, unknown>): Promise<Result & { exitCode: number }> {
    return readAnswer(await this.run([], JSON.stringify(this.args(given))));
  }

  /** Door 1, for what must fail with this code and leave files and kernel exactly as they were. */
  async refuses(given: Record<string, unknown>, code: ErrorCode): Promise<Result> {
    return this.#refuses(code, () => this.ask(given));
  }

  /**
   * As `refuses`, for what has to run into its limit of time, and once there to be `met`: a machine that has much to do may
   * not get so far within a short one, so a longer one is tried.
   */
  async runsOut(
    given: Record<string, unknown>,
    code: ErrorCode,
    met: (result: Result) => boolean = ({ error }) => error?.code === code,
  ): Promise<Result> {
    return this.#refuses(code, async () => {
      for (const timeout of [1, 5, 30]) {
        const result = await this.ask({ ...given, timeout });
        if (met(result)) return result;
      }
      return this.ask({ ...given, timeout: 120 });
    });
  }

  async #refuses(code: ErrorCode, ask: () => Promise<Result>): Promise<Result> {
    const before = this.state();
    const result = await ask();
    expect(result.error, result.msg).toMatchObject({ code });
    expect(result).toMatchObject({ failed: true, changed: false, comment: result.msg });
    expect(result.error).not.toHaveProperty("stack");
    expect(result.msg).not.toMatch(STACK);
    expect(this.state()).toEqual(before);
    return result;
  }
}

/** A line of a stack trace. */
export const STACK = /^\s+at .*[:(]/m;

/** A file's text, or what else is there, without following or opening it. */
function contentsOf(path: string): string {
  const stat = lstatSync(path);
  if (stat.isFile()) return readFileSync(path, "utf8");
  return stat.isSymbolicLink() ? `-> ${readlinkSync(path)}` : stat.isDirectory() ? "directory" : "special";
}

/** What holds for every answer of doors 1 and 2: one line of JSON that obeys the schema, nothing on stderr, exit 0 or 1. */
export function readAnswer({ exitCode, stdout, stderr }: Answered): Result & { exitCode: number } {
  if (stderr !== "") throw new Error(`stderr is not empty: ${stderr}`);
  if (!/^\{.*\}\n$/.test(stdout)) throw new Error(`not one line of JSON: ${stdout.slice(0, 300)}`);
  const result: unknown = JSON.parse(stdout);
  if (!validate(result)) throw new Error(`not a result: ${JSON.stringify(validate.errors)}\n${stdout}`);
  if (exitCode !== (result.failed ? 1 : 0)) throw new Error(`exit status ${exitCode} with ${stdout}`);
  return { ...result, exitCode };
}

const roots: string[] = [];
afterAll(() => Promise.all(roots.map(removeRoot)));

/** Removes a host's folder. What a killed run had started may still be writing there: then it is tried again. */
export async function removeRoot(root: string): Promise<void> {
  for (let tries = 200; ; tries--) {
    try {
      return await rm(root, { recursive: true, force: true });
    } catch (error) {
      if (tries === 0 || (error as NodeJS.ErrnoException).code !== "ENOTEMPTY") throw error;
      await sleep(25);
    }
  }
}

/** A host for one test; its folder is removed when the file's tests have ended, because they run in parallel. */
export function fakeHost(): FakeHost {
  const host = new FakeHost();
  roots.push(host.root);
  return host;
}
