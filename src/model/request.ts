// A request, checked and complete, in parts. Pure.

import type { Arguments } from "../generated/arguments.ts";
import type { Allow, Groups } from "./allow.ts";
import type { Directories } from "./directories.ts";
import type { Family } from "./family.ts";
import type { Options } from "./options.ts";
import type { HostSettings, Settings } from "./settings.ts";

/** Where a value comes from. */
export type Origin = "argument" | "settings" | "default";

export interface Request {
  /** All arguments as they were given and completed: for the answer, and for the commands that it names. */
  args: Arguments;
  subject: Subject;
  host: HostConfig;
  client: Client;
  defaults: Defaults;
  loading: Loading;
  /** What of it is a container's own and was given, and is no default. */
  options: Options;
  /** Those of the host. */
  settings: HostSettings;
  /** Where each argument's value comes from. */
  origins: Readonly<Record<string, Origin>>;
  /** seconds; how long to wait for a container that does not exist or run yet. */
  waitTimeout: number;
  /** Whether the host is to have the watcher's service. */
  watches: boolean;
  /** seconds; after which the change is put back unless it is confirmed. */
  confirm: number | undefined;
  /** Predict, and change nothing. */
  check: boolean;
  /** Answer with each file's text before and after. */
  diff: boolean;
  warnings: string[];
}

/** What a call is about. */
export interface Subject {
  /** Names or ids; empty only where the call is about the host, or about `all`. */
  containers: readonly string[];
  all: boolean;
  /** The host's own rules. */
  base: boolean;
  state: Arguments["state"];
}

/** How docker_iptables is used on this host. */
export interface HostConfig {
  directories: Directories;
  /** The services that load them, as they were named. */
  services: Record<Family, string>;
  /** seconds; the limit of each command and of each wait for a lock. */
  timeout: number;
  /** Whether IPv6 is requested: a host without it is then a failure. */
  needsIpv6: boolean;
}

/** Who is asked about containers. */
export type Client = Pick<Arguments, "client" | "docker_host" | "timeout">;

/** What a container gets that says nothing else, in its fragment's head or by this call. */
export interface Defaults extends Pick<Arguments, "chain" | "guards" | "ipv6" | "network"> {
  /** Who may connect: what the settings say, or a call that names no container. */
  allow: Allow | undefined;
  /** Of the settings. */
  groups: Groups;
  /** Whether a container's labels decide in the place of the settings, instead of narrowing them. */
  trustsLabels: boolean;
}

/** How the kernel gets the rules; and what becomes of those that no fragment declares. */
export type Loading = Pick<Arguments, "reload" | "adopt" | "replace">;

/** The parts of complete arguments. */
export function partsOf(
  args: Arguments,
  settings: Settings,
): Pick<Request, "subject" | "host" | "client" | "defaults" | "loading" | "waitTimeout" | "watches" | "confirm"> {
  const { timeout, reload } = args;
  return {
    subject: { containers: args.container, all: args.all, base: args.base, state: args.state },
    host: {
      ...placesOf(args),
      timeout,
      needsIpv6: args.ipv6,
    },
    client: { client: args.client, docker_host: args.docker_host, timeout },
    defaults: {
      // A call's own lists are those of the containers that it names.
      allow: args.container.length > 0 ? settings.allow : args.allow,
      groups: settings.sources ?? {},
      trustsLabels: settings.labels === "trusted",
      chain: args.chain,
      guards: args.guards,
      ipv6: args.ipv6,
      network: args.network,
    },
    loading: { reload, adopt: args.adopt, replace: args.replace },
    waitTimeout: args.wait_timeout,
    watches: args.watch,
    confirm: args.confirm,
  };
}

/** Where its backend has the fragments, and what loads them. */
export function placesOf(args: Arguments): Pick<HostConfig, "directories" | "services"> {
  const { nftables_dir: directory, nftables_service: service } = args;
  if (args.backend === "nft")
    return { directories: { ipv4: directory, ipv6: directory }, services: { ipv4: service, ipv6: service } };
  return {
    directories: { ipv4: args.iptables_dir, ipv6: args.ip6tables_dir },
    services: { ipv4: args.iptables_service, ipv6: args.ip6tables_service },
  };
}

/** Whether a call exists to bring the host's own rules up to date: then it makes what they need. */
export function setsUp({ base, state }: Subject): boolean {
  return base && state === "present";
}

/** Whether a call removes the host's own rules. */
export function removesHost({ base, state }: Subject): boolean {
  return base && state === "absent";
}
