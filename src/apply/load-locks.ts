// The load locks of one call: what is done while they are held does not wait for them.

import type { Family } from "../model/family.ts";
import type { HostConfig } from "../model/request.ts";
import { withLoadLock } from "../system/lock.ts";

export class LoadLocks {
  readonly #host: HostConfig;
  #held: readonly Family[] = [];

  constructor(host: HostConfig) {
    this.#host = host;
  }

  /** Throws Failure `locked`. */
  async holding<T>(families: readonly Family[], steps: () => Promise<T>): Promise<T> {
    const missing = families.filter((family) => !this.#held.includes(family));
    const directories = new Set(missing.map((family) => this.#host.directories[family]));
    return withLoadLock([...directories], this.#host.timeout, async () => {
      const before = this.#held;
      this.#held = [...before, ...missing];
      return steps().finally(() => {
        this.#held = before;
      });
    });
  }
}
