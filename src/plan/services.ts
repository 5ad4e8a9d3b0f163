// The services that load the directories.

import { FAMILIES, type Family } from "../model/family.ts";
import type { HostConfig } from "../model/request.ts";
import { type RequiredService, unitName } from "../systemd/units.ts";

/** The services that have to load these families; one may load both. */
export function servicesFor(families: readonly Family[], { services, directories }: HostConfig): RequiredService[] {
  const requiredServices = new Map<string, RequiredService>();
  for (const family of families) {
    const unit = unitName(services[family]);
    const required = requiredServices.get(unit) ?? { unit, directories: [], families: [] };
    required.directories.push(directories[family]);
    required.families.push(family);
    requiredServices.set(unit, required);
  }
  return [...requiredServices.values()];
}

/** The names of the services that load the directories, each once. */
export function loadersOf({ services }: HostConfig): string[] {
  return [...new Set(FAMILIES.map((family) => unitName(services[family])))];
}

/** Said once by setup and by status: it may well be right. */
export function unknownService(unit: string): string {
  return `${unit} was not written by docker_iptables, and how it loads the fragments is unknown: after each reload, docker_iptables checks whether rules were lost`;
}
