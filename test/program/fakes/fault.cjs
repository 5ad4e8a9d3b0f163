// Loaded into the executable by NODE_OPTIONS: kills it at its CRASH_ATth step on the way of a fragment to its place.
// A step lies before and after each call that changes a directory, and in the middle of each write.

const files = require("node:fs/promises");

const last = Number(process.env.CRASH_AT);
let steps = 0;

function step() {
  steps += 1;
  if (steps !== last) return;
  process.kill(process.pid, "SIGKILL");
  for (;;);
}

for (const name of ["rename", "unlink", "rm", "open"]) {
  const real = files[name];
  files[name] = async (path, ...rest) => {
    const writes = name !== "open" || String(path).endsWith(".tmp");
    if (!writes || !String(path).startsWith(process.env.DIRS)) return real(path, ...rest);
    step();
    const result = await real(path, ...rest);
    step();
    if (name === "open") writeInHalves(result);
    return result;
  };
}

function writeInHalves(handle) {
  const real = handle.writeFile;
  handle.writeFile = async (text) => {
    const half = Math.floor(text.length / 2);
    await real.call(handle, text.slice(0, half));
    step();
    await real.call(handle, text.slice(half));
  };
}
