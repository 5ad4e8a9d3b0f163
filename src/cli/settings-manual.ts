// The manual page of the host's settings, from their schema. The build writes it. Pure.

import example from "../../examples/docker_iptables.json" with { type: "json" };
import args from "../../schema/arguments.schema.json" with { type: "json" };
import settings from "../../schema/settings.schema.json" with { type: "json" };
import { block, term } from "./manual.ts";

interface Setting {
  $ref?: string;
  description?: string;
  enum?: readonly string[];
  default?: unknown;
}

/** docker_iptables.json(5). */
export function settingsManualText(version: string): string {
  return `.TH DOCKER_IPTABLES.JSON 5 "" "docker_iptables ${version}" "File Formats"
.SH NAME
docker_iptables.json \\- the settings of a host for docker_iptables
.SH DESCRIPTION
/etc/docker_iptables.json is one JSON object. Each key is optional, and is the default of the argument of the same name: what a call
itself is given comes first. setup writes here what it is given, and keeps the rest; an editor may change it, too. Only root may be able to
write the file and the directories above it. Keys that there are not are refused.
.SH KEYS
${Object.entries(settings.properties)
  .map(([name, setting]) => key(name, setting))
  .join("\n")}
.SH EXAMPLE
${block(JSON.stringify(example, undefined, 2).split("\n"))}
.SH "SEE ALSO"
.BR docker_iptables (1)
`;
}

function key(name: string, setting: Setting): string {
  const { description = "", enum: choices = [], default: fallback } = argumentOf(setting);
  const values = choices.length > 0 ? ` One of ${choices.join(", ")}.` : "";
  const otherwise = fallback === undefined ? "" : ` Default: ${JSON.stringify(fallback)}.`;
  return term(name, `${description.replaceAll("`", "")}${values}${otherwise}`);
}

/** What it says itself, or the argument's. */
function argumentOf(setting: Setting): Setting {
  const [, name] = /^arguments#\/properties\/(.*)$/.exec(setting.$ref ?? "") ?? [];
  const found = Object.entries<Setting>(args.properties).find(([one]) => one === name);
  return found?.[1] ?? setting;
}
