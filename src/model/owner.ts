// Whose a fragment of ours is, and each rule in it: a container's, or the host's. Pure.
//
// On disk the file's name says it (11-docker-container_web, 10_docker), in the kernel each rule's comment ("docker_iptables: web",
// "docker_iptables: (10_docker)"). No container can have a name in parentheses.

import { basename } from "node:path/posix";

export interface ContainerOwner {
  kind: "container";
  name: string;
}

/** The host's own rules, in one of its files. */
export interface HostOwner {
  kind: "host";
  file: string;
}

export type Owner = ContainerOwner | HostOwner;

/** The host's files, in both directories. */
export const HOST_FILES = ["10_docker", "90_docker"] as const;

/** The original script's, so that it takes over its files. */
const CONTAINER_FILE = "11-docker-container_";

export function containerOwner(name: string): ContainerOwner {
  return { kind: "container", name };
}

export function hostOwner(file: string): HostOwner {
  return { kind: "host", file };
}

/** The name of an owner's fragment in either directory. */
export function fileOf(owner: Owner): string {
  return owner.kind === "container" ? `${CONTAINER_FILE}${owner.name}` : owner.file;
}

/** The owner of the fragment of this name or path; undefined for a foreign one. */
export function ownerOfFile(path: string): Owner | undefined {
  const file = basename(path);
  if (file.startsWith(CONTAINER_FILE)) return containerOwner(file.slice(CONTAINER_FILE.length));
  return HOST_FILES.some((one) => one === file) ? hostOwner(file) : undefined;
}

/** A fragment, whose owner its file's name says where it does not itself. */
type Owned = { path: string; owner?: Owner };

export function ownerOf({ path, owner }: Owned): Owner | undefined {
  return owner ?? ownerOfFile(path);
}

/** The container whose fragment it is, or a file of this name or path; undefined where it is no container's. */
export function containerOf(file: string | Owned): string | undefined {
  const owner = typeof file === "string" ? ownerOfFile(file) : ownerOf(file);
  return owner?.kind === "container" ? owner.name : undefined;
}

/** Whether a fragment is one of the host's. */
export function isHostFile(fragment: Owned): boolean {
  return ownerOf(fragment)?.kind === "host";
}

/** Whether there is any that is no container's: host rules, of ours or by hand. */
export function hasHostRules(fragments: readonly Owned[]): boolean {
  return fragments.some((one) => containerOf(one) === undefined);
}

/** As the comments of the rules have it, and messages: "web", "(10_docker)". */
export function spellOwner(owner: Owner): string {
  return owner.kind === "container" ? owner.name : `(${owner.file})`;
}

/** What `spellOwner` gives, read. A comment in the kernel may hold anything: then a name that no container has. */
export function readOwner(word: string): Owner {
  const file = /^\((.*)\)$/.exec(word)?.[1];
  return file === undefined ? containerOwner(word) : hostOwner(file);
}

/** The names of the containers among these owners. */
export function containersAmong(owners: Iterable<Owner>): string[] {
  return [...owners].flatMap((owner) => (owner.kind === "container" ? [owner.name] : []));
}
