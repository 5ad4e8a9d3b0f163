// What of execa is used, for whoever imports it late (exec.ts): of a package that is imported as a whole nothing is left out of a bundle.

export { execa } from "execa";
