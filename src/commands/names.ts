// The names that a shell completes: what the client of this host has, and what has a fragment.

import { inspectAllNetworks, inspectContainers, listContainers } from "../docker/client.ts";
import { ownersIn } from "../fragments/by-family.ts";
import type { HostRequest } from "../plan/backend.ts";
import { readDirectories } from "../plan/directories.ts";

/** In their order; containers are those that run. Throws Failure of the client, or of the directories. */
export async function listNames(
  named: "containers" | "fragments" | "networks",
  { client, host }: Pick<HostRequest, "client" | "host">,
): Promise<string[]> {
  switch (named) {
    case "containers": {
      const { usable } = await inspectContainers(client, await listContainers(client));
      return usable.map(({ name }) => name).sort();
    }
    case "networks":
      return (await inspectAllNetworks(client)).usable.map(({ name }) => name).sort();
    case "fragments":
      return [...ownersIn(await readDirectories(host))].sort();
  }
}
