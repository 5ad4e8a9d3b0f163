// Loaded into the executable by NODE_OPTIONS, so that a fake host is not the machine that it stands on. In place of what the
// machine's kernel, daemons and users have it sees the files below $FAKE/machine and the interfaces that stand there, and of
// the processes those that were started with a path of this host in their environment.

const { readFileSync } = require("node:fs");
const files = require("node:fs/promises");
const os = require("node:os");
const { dirname } = require("node:path");

const MACHINES = /^\/(?:etc\/docker|proc\/net|proc\/sys\/net|run\/systemd|sys)\//;
const { FAKE } = process.env;
const ROOT = dirname(FAKE);

for (const [name, real] of Object.entries(files)) {
  if (typeof real !== "function") continue;
  files[name] = (path, ...rest) => real(MACHINES.test(path) ? `${FAKE}/machine${path}` : path, ...rest);
}

const { readdir } = files;
files.readdir = async (path, ...rest) => {
  const entries = await readdir(path, ...rest);
  return path === "/proc" ? entries.filter((entry) => !/^\d+$/.test(entry) || isOfHost(entry)) : entries;
};

function isOfHost(pid) {
  try {
    return readFileSync(`/proc/${pid}/environ`, "latin1").includes(ROOT);
  } catch {
    return false;
  }
}

os.networkInterfaces = () => JSON.parse(readFileSync(`${FAKE}/machine/interfaces.json`, "utf8"));
