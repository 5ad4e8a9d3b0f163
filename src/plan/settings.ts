// What a call makes of the host's settings: a setup keeps the choices that it is given, and its removal forgets them. Pure.

import { type Fragments, ownersIn } from "../fragments/by-family.ts";
import { OPTION_NAMES } from "../model/options.ts";
import { type Request, removesHost, setsUp } from "../model/request.ts";
import { type HostSettings, type Settings, settingsIn, settingsText } from "../model/settings.ts";
import type { FileChange } from "./item.ts";

type SettingsRequest = Pick<Request, "args" | "origins" | "settings" | "subject">;

/** The file as it is and as it should be; undefined where the call has nothing to do with it. */
export function planSettings(request: SettingsRequest): FileChange | undefined {
  const { settings, subject } = request;
  const { path, file, values } = settings;
  if (removesHost(subject)) return file && { path, before: file, after: undefined };
  if (!setsUp(subject)) return undefined;
  const after = { ...values, ...choicesOf(request) };
  if (file === undefined && Object.keys(after).length === 0) return undefined;
  // An administrator's own line breaks stay as long as the values do.
  const isSame = file !== undefined && settingsText(after) === settingsText(values);
  return { path, before: file, after: isSame ? file.text : settingsText(after) };
}

/**
 * What a setup is given that is a choice for the host. `reload: none` is not, unless a watcher has it: a host image is prepared so, and
 * a setup on the host that boots from it loads its rules. Nor are the lists and the network of containers that the call names, and how long it waits for them.
 */
function choicesOf({ args, origins, subject }: SettingsRequest): Settings {
  const given = Object.entries(args).filter(([name]) => origins[name] === "argument");
  const names = subject.containers.length > 0 ? ["allow", "network", "wait_timeout"] : [];
  const isChoice = ([name, value]: [string, unknown]) =>
    !names.includes(name) && (args.watch || name !== "reload" || value !== "none");
  return settingsIn(Object.fromEntries(given.filter(isChoice)));
}

/** The settings after a call that succeeded. */
export function settingsAfter(request: SettingsRequest): HostSettings {
  const change = planSettings(request);
  const { settings } = request;
  if (change === undefined) return settings;
  const file = change.after === undefined ? undefined : { text: change.after, mode: settings.file?.mode ?? 0o644 };
  return { ...settings, file };
}

/** What follows from a change of them: containers that are published keep their rules for now, unless a watcher runs. */
export function warnOfSettings(request: SettingsRequest, now: Fragments): string[] {
  const { args, settings, subject } = request;
  const former: Readonly<Record<string, unknown>> = { ...settings.values };
  const changed = Object.entries(choicesOf(request)).filter(
    ([name, value]) => JSON.stringify(former[name]) !== JSON.stringify(value),
  );
  const names = changed.map(([name]) => name).filter((name) => OPTION_NAMES.includes(name));
  const taken = settings.takenFrom;
  return [
    ...(settings.chosen !== undefined && setsUp(subject) ? [settings.chosen] : []),
    ...(taken !== undefined && setsUp(subject)
      ? [`${settings.path} takes over the options that ${taken} was installed with`]
      : []),
    ...(setsUp(subject) && settings.file !== undefined && names.length > 0 && !args.watch && ownersIn(now).size > 0
      ? [
          `'docker_iptables sync' applies the changed settings (${names.join(", ")}) to containers that are published already`,
        ]
      : []),
  ];
}
