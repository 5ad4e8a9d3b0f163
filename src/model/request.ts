// What is asked for, checked and complete. Pure.

import type { Arguments } from "../generated/arguments.ts";
import type { Options } from "./options.ts";

export interface Request {
  /** `container` is empty only where the request is about the host. */
  args: Arguments;
  /** What of it is a container's own and was given, and is no default. */
  options: Options;
  /** Predict, and change nothing. */
  check: boolean;
  /** Answer with each file's text before and after. */
  diff: boolean;
  warnings: string[];
}
