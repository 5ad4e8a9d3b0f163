// `npm run fuzz [-- NAME…] [-- --seconds N] [-- --seed N]`: all surfaces, or those named, in turn with a new seed each round,
// until the time is up (60 s) or something does not hold: then it prints the input and how to have it again, and exits with 1.

import { parseArgs } from "node:util";
import fc from "fast-check";
import { SURFACES } from "./surfaces.ts";

/** Inputs of a surface in one round. */
const RUNS = 1000;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: "string", default: "60" }, seed: { type: "string" } },
});
const chosen = SURFACES.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
if (chosen.length === 0) {
  console.error(`no such surface; there are: ${SURFACES.map(({ name }) => JSON.stringify(name)).join(", ")}`);
  process.exit(2);
}
const end = Date.now() + Number(values.seconds) * 1000;
let seed = values.seed === undefined ? Date.now() % 0x7fffffff : Number(values.seed);
let tried = 0;
do {
  for (const { name, property } of chosen) {
    const { failed, counterexample, errorInstance, numRuns } = await fc.check(property, { seed, numRuns: RUNS });
    tried += numRuns;
    if (!failed) continue;
    console.error(`${name} does not hold for ${fc.stringify(counterexample)}\n${errorInstance}`);
    console.error(`again: npm run fuzz -- ${JSON.stringify(name)} --seed ${seed} --seconds 0`);
    process.exit(1);
  }
  seed = (seed + 1) % 0x7fffffff;
} while (Date.now() < end);
console.log(`${tried} inputs for ${chosen.length} surfaces: all holds`);
