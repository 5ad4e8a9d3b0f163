// What a client or a daemon answers -> Containers, Networks. Each document by itself: one that cannot be used costs only
// itself, whoever chose its name, its bridge or its shape. Pure.

import { validate as validateContainer } from "../generated/validate-container.js";
import { validate as validateNetwork } from "../generated/validate-network.js";
import { excerpt, Failure } from "../model/errors.ts";
import { oneLine } from "../text/visible.ts";
import { type Attachment, type Container, readAttachments, readContainer } from "./container.ts";
import { type Network, readNetwork } from "./network.ts";

/** A document that cannot be used. */
export interface Unusable {
  kind: "container" | "network";
  /** As the document has them, to compare with; empty where it has none. */
  name: string;
  id: string;
  /** The failure's message for a container that was named. */
  failure: Failure;
  /** The places of a container that can be read all the same. */
  attachments: readonly Attachment[];
}

/** Each document is one or the other. */
export interface Answered<T> {
  usable: T[];
  unusable: Unusable[];
}

/**
 * The containers, each once: nerdctl finds one by its name and by its id. It also finds those of other clients of containerd, which
 * have an empty name: they do not count, nor do images and networks with a requested name. `command` is the client's command, for
 * messages.
 */
export function readContainers(documents: readonly unknown[], command: string): Answered<Container> {
  const own = documents.filter((document) => !isOther(document));
  const { usable, unusable } = readEach("container", own, (document) => {
    if (validateContainer(document)) return readContainer(document);
    throw notUnderstood(command, validateContainer.errors?.[0]);
  });
  const once = new Map(usable.map((container) => [container.id || container.name, container]));
  return { usable: [...once.values()], unusable };
}

export function readNetworks(documents: readonly unknown[], command: string): Answered<Network> {
  return readEach("network", documents, (document) => {
    if (validateNetwork(document)) return readNetwork(document);
    throw notUnderstood(command, validateNetwork.errors?.[0]);
  });
}

/** The labels of images, by id without its algorithm. One that cannot be read is left out. */
export function readImages(documents: readonly unknown[]): Map<string, Readonly<Record<string, string>>> {
  const images = new Map<string, Readonly<Record<string, string>>>();
  for (const document of documents) {
    const { Id, Config } = fieldsOf(document);
    const labels = Object.entries(fieldsOf(fieldsOf(Config)["Labels"])).filter(
      ([, value]) => typeof value === "string",
    );
    if (typeof Id !== "string") continue;
    images.set(Id.replace(/^sha256:/, ""), Object.fromEntries(labels) as Record<string, string>);
  }
  return images;
}

/** Who it is, and what is wrong with it, in a sentence without control characters. */
export function describe({ kind, name, id, failure }: Unusable): string {
  return `the ${kind} ${printable(name || id.slice(0, 12)) || "without a name"} cannot be used: ${printable(failure.message, 300)}`;
}

function readEach<T>(
  kind: Unusable["kind"],
  documents: readonly unknown[],
  read: (document: unknown) => T,
): Answered<T> {
  const answered: Answered<T> = { usable: [], unusable: [] };
  for (const document of documents) {
    try {
      answered.usable.push(read(document));
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      const attachments = attachmentsIn(document);
      answered.unusable.push({ kind, ...identityOf(document), failure: error, attachments });
    }
  }
  return answered;
}

function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? { ...value } : {};
}

function identityOf(document: unknown): Pick<Unusable, "name" | "id"> {
  const fields = fieldsOf(document);
  const first = (...keys: string[]) => keys.map((key) => fields[key]).find((value) => typeof value === "string") ?? "";
  return { name: first("Name", "name").replace(/^\//, ""), id: first("Id", "ID", "id") };
}

function isOther(document: unknown): boolean {
  if (typeof document !== "object" || document === null) return false;
  return !("State" in document || "NetworkSettings" in document) || ("Name" in document && document.Name === "");
}

/** A container's places; none where one of them cannot be read, for then nothing is sure. */
function attachmentsIn(document: unknown): Attachment[] {
  try {
    return validateContainer(document) ? readAttachments(document.NetworkSettings ?? {}) : [];
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return [];
  }
}

function notUnderstood(command: string, error: { instancePath: string; message?: string } | undefined): Failure {
  const path = printable(error?.instancePath ?? "", 120);
  return new Failure(
    "client_answer_invalid",
    `'${excerpt(command)}' returned JSON that is not in the format of inspect: ${path || "/"} ${error?.message ?? "is wrong"}`,
    { command, path },
  );
}

/** Text from outside, shortened, as a terminal may have it. */
function printable(text: string, limit = 64): string {
  return excerpt(oneLine(text), limit);
}
