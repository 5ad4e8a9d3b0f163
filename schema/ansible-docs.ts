// Ansible's documentation of the module and of the role, from the schemas' own descriptions. Pure.

import { stringify } from "yaml";
import args from "./arguments.schema.json" with { type: "json" };
import result from "./result.schema.json" with { type: "json" };

/**
 * The namespace is the project's, `host` is what the collection works on (thrice the same word would say nothing), and the
 * module keeps the short name that it has in a playbook's library/. Galaxy allows [a-z0-9_] in either.
 */
export const COLLECTION = { namespace: "docker_iptables", name: "host" };

/** The collection's version that first had the module and the role. */
const SINCE = "0.1.0";

/** ansible-test asks for a GitHub account in parentheses, or for this word. */
const AUTHORS = ["The docker_iptables authors (!UNKNOWN)"];

interface Schema {
  $ref?: string;
  description?: string;
  type?: string | string[];
  default?: unknown;
  enum?: string[];
  examples?: unknown[];
  items?: Schema;
  properties?: Record<string, Schema>;
  "x-type"?: string;
  "x-aliases"?: string[];
  "x-returned"?: string;
}

/** An argument as ansible-doc and argument_specs.yml describe it. */
function optionOf({ description, type, "x-type": special, items, enum: choices, ...property }: Schema) {
  return {
    description: markup(description),
    type: special ?? ansibleType(type),
    ...(items === undefined ? {} : { elements: ansibleType(items.type) }),
    ...(choices === undefined ? {} : { choices }),
    ...(property.default === undefined ? {} : { default: property.default }),
  };
}

const OPTIONS = Object.fromEntries(
  Object.entries<Schema>(args.properties).map(([name, property]) => {
    const aliases = property["x-aliases"];
    return [name, { ...optionOf(property), ...(aliases === undefined ? {} : { aliases }) }];
  }),
);

/** What a key of the result holds; a key of the verbs' own results has no x-returned, and is no key of the module's. */
function returnOf(schema: Schema): object {
  const { description, "x-returned": returned, type, examples, items, properties } = referred(schema);
  const inner = properties ?? items?.properties;
  return {
    description: markup(description),
    ...(returned === undefined ? {} : { returned: markup(returned) }),
    type: ansibleType(type),
    ...(items === undefined ? {} : { elements: ansibleType(items.type) }),
    ...(inner === undefined ? {} : { contains: mapped(inner, returnOf) }),
    ...(examples === undefined ? {} : { sample: examples[0] }),
  };
}

/** The result schema refers to one definition, of a family's tables. */
function referred(schema: Schema): Schema {
  return schema.$ref === undefined ? schema : result.definitions.tables;
}

const RETURN = mapped(
  Object.fromEntries(Object.entries<Schema>(result.properties).filter(([, schema]) => schema["x-returned"])),
  returnOf,
);

const support = (description: string, more = {}) => ({ description, support: "full", ...more });

/** plugins/modules/docker_iptables.yml, which ansible-doc reads since 2.14; the examples are texts of playbooks. */
export function moduleDocumentation(examples: readonly string[]): string {
  const { namespace, name } = COLLECTION;
  const DOCUMENTATION = {
    module: "docker_iptables",
    short_description: "Publish the ports of Docker containers on hosts that manage iptables themselves",
    version_added: SINCE,
    description: [
      "On a host whose dockerd runs with C(--iptables=false) Docker creates no rules for published ports. This module does.",
      "It inspects the container, writes its rules into C(/etc/iptables.d), loads them, and checks that they are in the kernel.",
      "It compares with the kernel. A rule that was flushed is restored, and that counts as a change.",
      "A failure is rolled back in files and kernel; a rollback never opens a port.",
    ],
    author: AUTHORS,
    requirements: [
      "on the host Node.js, 18.19 or later",
      "docker (or podman or nerdctl)",
      "iptables",
      "flock (util-linux)",
      "conntrack (for UDP ports)",
    ],
    attributes: {
      check_mode: support("Predicts the changes and makes none."),
      diff_mode: support("Shows each file before and after."),
      idempotent: support("A second run with the same arguments changes nothing."),
      async: support("Can run in the background with C(async)."),
      platform: support("Where it runs.", { platforms: "linux" }),
      action_group: support("Its arguments can be set once, with C(module_defaults).", {
        membership: [`${namespace}.${name}.docker_iptables`],
      }),
    },
    options: OPTIONS,
    notes: [
      "It needs root on the host: use C(become).",
      "It is a Node.js script, run by C(/usr/bin/node). If Node.js is elsewhere, set C(ansible_node_interpreter) for the host.",
      "The services of C(base) run the C(docker_iptables) on the host's PATH, not the module. The role C(docker_iptables) of this collection installs it.",
      "In check mode, a container that does not exist yet is not a failure but a change, with a warning that its rules cannot be predicted yet.",
    ],
    seealso: [
      { module: "ansible.builtin.iptables", description: "Single rules in the kernel." },
      { module: "community.docker.docker_container", description: "The containers themselves." },
      { module: "community.general.iptables_state", description: "All rules, saved and restored." },
    ],
  };
  return document({ DOCUMENTATION, EXAMPLES: examples.join("\n"), RETURN });
}

/** What only asks takes of the arguments. */
const OF_QUESTIONS = [
  ...[
    "container",
    "query",
    "guards",
    "chain",
    "ipv6",
    "backend",
    "iptables_dir",
    "ip6tables_dir",
    "reload",
    "iptables_service",
  ],
  ...[
    "ip6tables_service",
    "nftables_dir",
    "nftables_service",
    "network",
    "wait_timeout",
    "timeout",
    "client",
    "docker_host",
    "config",
    "debug",
  ],
];

/** plugins/modules/docker_iptables_info.yml: what is out of sync, what is published, who reaches it. */
export function infoDocumentation(examples: readonly string[]): string {
  const { namespace, name } = COLLECTION;
  const options = Object.fromEntries(OF_QUESTIONS.map((option) => [option, OPTIONS[option] ?? {}]));
  const returned = "when it is what O(query) asks for";
  const RETURNED = ["status", "problems", "last_load", "published", "explained"].map((key) => {
    const schema: Schema = (result.properties as Record<string, Schema>)[key] ?? {};
    return [key, { ...returnOf(schema), returned: returned.replace("O(query)", "C(query)") }];
  });
  const common = ["msg", "warnings", "invocation", "failed", "error"].map((key) => [key, RETURN[key] ?? {}]);
  const DOCUMENTATION = {
    module: "docker_iptables_info",
    short_description: "Ask what is out of sync, what is published, and who reaches it",
    version_added: SINCE,
    description: [
      "Compares a host's Docker containers with its firewall fragments and with the rules in the kernel, and changes nothing.",
      "Problems are no failure of the task: each has C(msg), what is wrong, and C(hint), a command that is right on that host.",
    ],
    author: AUTHORS,
    requirements: ["on the host Node.js, 18.19 or later", "docker (or podman or nerdctl)", "iptables"],
    attributes: {
      check_mode: support("It changes nothing."),
      diff_mode: { description: "There is no difference to show.", support: "none" },
      idempotent: support("It changes nothing."),
      platform: support("Where it runs.", { platforms: "linux" }),
      action_group: support("Its arguments can be set once, with C(module_defaults).", {
        membership: [`${namespace}.${name}.docker_iptables`],
      }),
    },
    options: { ...options, query: { ...OPTIONS["query"], default: "status" } },
    notes: ["It needs root on the host: use C(become)."],
    seealso: [{ module: `${namespace}.${name}.docker_iptables`, description: "Publishes the ports." }],
  };
  return document({
    DOCUMENTATION,
    EXAMPLES: examples.join("\n"),
    RETURN: Object.fromEntries([...RETURNED, ...common]),
  });
}

/** The arguments that the role has in another form, or not at all. */
const NOT_OF_THE_ROLE = new Set(["container", "all", "state", "base", "query", "confirm"]);

/** The role's variables that it hands on, with the argument that each becomes. */
export const ROLE_VARIABLES = Object.keys(OPTIONS)
  .filter((name) => !NOT_OF_THE_ROLE.has(name))
  .map((name) => [`docker_iptables_${name}`, name] as const);

/** roles/docker_iptables/meta/argument_specs.yml. */
export function roleArguments(): string {
  const own = {
    docker_iptables_containers: {
      description: "Names of the containers to publish. If empty, only the host is prepared.",
      type: "list",
      elements: "str",
      default: [],
    },
    docker_iptables_executable: {
      description:
        "The executable to install, a file on the controller. It is copied to C(/usr/local/bin/docker_iptables). Default: C(docker_iptables-linux-x64) or C(-arm64) among the playbook's C(files), else the collection's own, which needs Node.js.",
      type: "path",
    },
  };
  const handedOn = Object.fromEntries(
    // Not given is not the same as the default: module_defaults fill it in.
    ROLE_VARIABLES.map(([variable, name]) => [variable, { ...OPTIONS[name], default: undefined, aliases: undefined }]),
  );
  return document({
    argument_specs: {
      main: {
        short_description: "Install docker_iptables, prepare the host, publish containers",
        version_added: SINCE,
        description: [
          "Installs the executable, sets up the host rules and services, and publishes the containers, in one transaction.",
        ],
        author: AUTHORS,
        options: { ...own, ...handedOn },
      },
    },
  });
}

function ansibleType(type: string | string[] = "object"): string {
  const names: Record<string, string> = {
    array: "list",
    boolean: "bool",
    integer: "int",
    object: "dict",
    string: "str",
  };
  return names[String(type)] ?? "raw";
}

/** The schemas' code is in backticks, Ansible's in C(). */
function markup(text = ""): string {
  return text.replace(/`([^`]+)`/g, "C($1)");
}

function mapped(record: Record<string, Schema>, of: (schema: Schema) => object): Record<string, object> {
  return Object.fromEntries(Object.entries(record).map(([key, schema]) => [key, of(schema)]));
}

/** YAML 1.1, as Ansible reads it: there a bare `no` is a boolean. */
function document(content: object): string {
  return `---\n${stringify(content, { version: "1.1", lineWidth: 120, aliasDuplicateObjects: false })}`;
}
