// Loaded into the executable by NODE_OPTIONS: each of Node.js's own modules that it asks for is a line in MODULES_LOG.

const { appendFileSync } = require("node:fs");
const Module = require("node:module");

const load = Module._load;
Module._load = function (request, ...rest) {
  if (Module.isBuiltin(request)) appendFileSync(process.env.MODULES_LOG, `${request.replace(/^node:/, "")}\n`);
  return load.call(this, request, ...rest);
};
