// Loaded into the executable by NODE_OPTIONS: counts the steps that it takes, and at the FAULT_ATth, or at the FAULT_NTHth of those that
// are called FAULT_NAME, does what FAULT says. What runs side by side takes its steps in another order each time: a name finds each.
//
//   fail  a file operation throws EIO, a command exits with 70
//   kill  the process is killed (SIGKILL) before the step, or after the last one
//   term  it gets SIGTERM before the step, and goes on
//   none  nothing
//
// It knows no step by name: all of node:fs/promises and of its file handles is wrapped, and every command; a write is
// two steps. What only reads counts where FAULT_READS is set: a kill there leaves what one at the next change leaves.
// Each step is a line in the file FAULT_LOG; behind a digest of what is in FAULT_FOLDERS before it, divided by ":", and a
// tabulator, where these are given.

const { createHash } = require("node:crypto");
const { appendFileSync, constants, readdirSync, readFileSync } = require("node:fs");
const files = require("node:fs/promises");
const processes = require("node:child_process");

const { FAULT, FAULT_AT, FAULT_FOLDERS, FAULT_LOG, FAULT_NAME, FAULT_NTH, FAULT_READS } = process.env;
// A program that it starts takes no step of its own.
for (const name of Object.keys(process.env)) if (name.startsWith("FAULT")) delete process.env[name];
const READS = new Set(["access", "lstat", "read", "readFile", "readdir", "readlink", "readv", "realpath", "stat"]);
const WRITING = constants.O_WRONLY | constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC;
/** Nobody reads what state is written into first. */
const DRAFT = /\.\d+\.tmp$/;
let steps = 0;
let named = 0;
let isDead = false;

/** What a step is called in every run: without the folder of its host, and the numbers of what is made for a moment. */
function nameOf(step) {
  const line = step.replaceAll("\n", " ").replaceAll(/\/\S*\/docker_iptables-test-[^/\s"]+/g, "ROOT");
  return line.replaceAll(/\.\d+\.tmp\b/g, ".N.tmp");
}

/** Whether the step that is about to be taken has to fail. */
function step(name, changes) {
  if (FAULT === undefined || isDead || (!changes && !FAULT_READS)) return false;
  steps += 1;
  const line = nameOf(name);
  appendFileSync(FAULT_LOG, FAULT_FOLDERS ? `${digest()}\t${line}\n` : `${line}\n`);
  const isNamed = line === FAULT_NAME;
  if (isNamed) named += 1;
  const isHere = FAULT_NAME === undefined ? steps === Number(FAULT_AT) : isNamed && named === Number(FAULT_NTH);
  if (!isHere) return false;
  if (FAULT === "fail") return true;
  process.kill(process.pid, FAULT === "kill" ? "SIGKILL" : "SIGTERM");
  // Within the tests' process (in-process.ts) this goes on.
  isDead = FAULT === "kill";
  return false;
}

/** What a process that was killed comes to. */
function nothing() {
  return new Promise(() => {});
}

if (FAULT === "kill" || FAULT_FOLDERS) process.once("exit", () => step("end", true));

function digest() {
  const hash = createHash("sha1");
  for (const folder of FAULT_FOLDERS.split(":")) {
    for (const name of entriesOf(folder)) {
      hash.update(`${folder}/${name}\0`);
      try {
        hash.update(readFileSync(`${folder}/${name}`));
      } catch {
        // A directory, a link to nowhere, or gone meanwhile.
      }
    }
  }
  return hash.digest("hex");
}

function entriesOf(folder) {
  try {
    return readdirSync(folder).filter((name) => !DRAFT.test(name));
  } catch {
    return [];
  }
}

function broken(name) {
  return Object.assign(new Error(`EIO: i/o error, ${name}`), { code: "EIO", errno: -5, syscall: name });
}

for (const name of Object.keys(files)) {
  const real = files[name];
  if (typeof real !== "function") continue;
  files[name] = async (path, ...rest) => {
    const changes = name === "open" ? writes(rest[0]) : !READS.has(name);
    if (step(`${name} ${path}`, changes)) throw broken(name);
    if (isDead) return nothing();
    const result = await real(path, ...rest);
    if (name === "open") wrapHandle(result, String(path), changes);
    return result;
  };
}

function writes(flags) {
  return typeof flags === "string" ? flags !== "r" : ((flags ?? 0) & WRITING) !== 0;
}

function wrapHandle(handle, path, writer) {
  const prototype = Object.getPrototypeOf(handle);
  // close is the handle's own property, the others are its prototype's.
  for (const name of [...Object.getOwnPropertyNames(prototype), "close"]) {
    if (name === "fd") continue;
    const real = handle[name];
    if (typeof real !== "function" || name === "constructor" || name === "getAsyncId") continue;
    handle[name] = async (...rest) => {
      const changes = name === "close" ? writer : !READS.has(name);
      if (step(`${name} ${path}`, changes)) {
        // Linux lets go of a descriptor even where close(2) fails.
        if (name === "close") await real.call(handle);
        throw broken(name);
      }
      if (isDead) return nothing();
      return name === "writeFile" ? writeInHalves(handle, real, ...rest) : real.apply(handle, rest);
    };
  }
}

async function writeInHalves(handle, write, text) {
  const half = Math.floor(text.length / 2);
  await write.call(handle, text.slice(0, half));
  if (step("writeFile: half", true)) throw broken("writeFile");
  if (isDead) return nothing();
  await write.call(handle, text.slice(half));
}

const { spawn } = processes;
processes.spawn = (file, args, options) => {
  const fails = step(`run ${file} ${args.join(" ")}`, true);
  if (isDead) throw new Error("killed");
  return fails ? spawn("broken", [], options) : spawn(file, args, options);
};
