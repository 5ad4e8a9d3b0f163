// How a service's commands load the fragments, where that cannot come out right. Pure.
//
// What else happens to a text (awk, perl) is not understood, and so nothing is said about it: a script that makes one text of
// the fragments in a way of its own is never called wrong.

import { type Carried, isKnown, joined, NOTHING, ShellWalk, type Value } from "./shell-walk.ts";

/** How a script loads fragments, where that cannot come out right. */
export interface WrongForm {
  /**
   * concatenated: the fragments' texts, one behind the other, are one input of iptables-restore. single: each fragment is
   * loaded by itself. added: the same with --noflush. flushed: the rules are flushed first. lines: a rule at a time.
   * executed: the fragments are run as programs.
   */
  form: "concatenated" | "single" | "added" | "flushed" | "lines" | "executed";
  /** The command, as it is written. */
  statement: string;
}

type Program = "iptables" | "ip6tables";

/** What is known when a script starts. */
export interface Surroundings {
  /** The fragments' directories, with the command of each one's family. */
  directories: ReadonlyMap<string, Program>;
  /** Of the environment. */
  variables: ReadonlyMap<string, string>;
  /** Texts of other scripts that it may run, by path. */
  scripts: ReadonlyMap<string, string>;
}

/** The first form that is wrong, of what these scripts do one after the other. */
export function findWrongForm(scripts: readonly string[], surroundings: Surroundings): WrongForm | undefined {
  const walk = new LoadScript(surroundings);
  for (const script of scripts) walk.run(script);
  return walk.found;
}

/** Prefixes that do not change what a command does; how many operands of its own each takes. */
const WRAPPERS: Readonly<Record<string, number>> = {
  ...{ sudo: 0, command: 0, builtin: 0, nice: 0, ionice: 0, nohup: 0, env: 0, time: 0, setsid: 0, chronic: 0 },
  ...{ timeout: 1, flock: 1, "xtables-nft-multi": 0, "xtables-legacy-multi": 0, busybox: 0 },
};
const SHELLS = /^(ba|da|a|k)?sh$/;
/** Programs that test or print names, and load nothing. */
const HARMLESS =
  /^(\[|test|mkdir|chmod|chown|logger|rm|touch|stat|wc|install|printf|echo|read|ls|cat|sort|grep|sed|awk|unset|true|false|:|systemctl|sleep)$/;
const RESTORE = /\b(ip6?tables)(?:-legacy|-nft)?-restore\W*$/;
const IPTABLES = /\b(ip6?tables)(?:-legacy|-nft)?\W*$/;
const BUILT_IN = /^(PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING)$/;
/** A filter that takes sections apart, or heads out, may be a way to put fragments together. */
const TAKES_APART = /COMMIT|\\\*|\[\*\]|\b(filter|nat|mangle|raw)\b/;

class LoadScript extends ShellWalk {
  found: WrongForm | undefined;
  readonly #directories: Surroundings["directories"];
  readonly #scripts: ReadonlyMap<string, string>;

  constructor({ directories, variables, scripts }: Surroundings) {
    super([...directories.keys()]);
    this.#directories = directories;
    this.#scripts = scripts;
    for (const [name, text] of variables) this.variables.set(name, this.valueOf(text));
  }

  run(script: string): void {
    this.ownScript(script, [], undefined);
  }

  /** Returns what the command prints. */
  protected program(all: readonly Value[], input: Carried): Carried {
    const [name, ...args] = this.#split(unwrapped(all));
    if (name === undefined) return undefined;
    const base = name.text.slice(name.text.lastIndexOf("/") + 1);
    if (RESTORE.test(name.text)) return this.#restore(familyIn(name.text), args, input);
    if (IPTABLES.test(name.text)) return this.#iptables(familyIn(name.text), args);
    if (SHELLS.test(base)) return this.#shell(args, input);
    const called = this.callFunction(base, args, input);
    if (called !== undefined) return called.output;
    switch (base) {
      case "exit":
      case "return":
        this.ended = base;
        return undefined;
      case "exec": {
        const output = this.program(args, input);
        if (args.length > 0) this.ended = "exit";
        return output;
      }
      case "eval":
        return this.script(args.map(({ text }) => text).join(" "), this.positional, input);
      case "set":
        if (args[0]?.text === "--") this.positional = args.slice(1);
        return undefined;
      case "shift":
        this.positional = this.positional.slice(1);
        return undefined;
      case "read":
        for (const { text } of args.filter(isOperand))
          this.variables.set(text, { text: `$${text}`, carried: input === "texts" ? "lines" : input });
        return undefined;
      case "cd":
        this.variables.set("PWD", args.find(isOperand) ?? NOTHING);
        return undefined;
      case ".":
      case "source":
        return this.#runFile(args, input);
      case "run-parts":
        if (args.some(({ text }) => /^--(list|test|report)/.test(text))) return joined(args).carried;
        if (joined(args).carried === "names") this.#report("executed");
        return undefined;
      case "find":
        return this.#find(args);
      case "xargs":
        return this.#xargs(args, input);
      case "mv":
      case "cp": {
        const operands = args.filter(isOperand);
        this.files.set(operands.at(-1)?.text ?? "", operands[0] && this.contentOf(operands[0]));
        return undefined;
      }
      case "nft":
        if (/^flush ruleset/.test(joined(args).text)) this.#flush("iptables", "ip6tables");
        return undefined;
      case "docker_iptables":
        if (args[0]?.text === "load")
          for (const family of ["iptables", "ip6tables"] as const) this.#loadAfterFlush(family);
        return undefined;
    }
    return this.#printed(base, args, input) ?? this.#other(name, base, args, input);
  }

  /** A command that a variable holds with its arguments. */
  #split(words: readonly Value[]): readonly Value[] {
    const [name, ...args] = words;
    if (name === undefined || !/\S\s+\S/.test(name.text) || !isKnown(name.text)) return words;
    return [
      ...name.text
        .trim()
        .split(/\s+/)
        .map((text) => this.valueOf(text)),
      ...args,
    ];
  }

  /** What programs print that pass on what they get. */
  #printed(base: string, args: readonly Value[], input: Carried): Carried {
    const operands = args.filter(isOperand);
    const content = operands.map((one) => this.contentOf(one)).find((carried) => carried !== undefined);
    switch (base) {
      case "echo":
      case "printf":
      case "ls":
        return joined(args).carried;
      case "cat":
      case "zcat":
        return operands.length === 0 || operands.some(({ text }) => text === "-") ? input : content;
      case "sort":
        return content === "texts" || input === "texts" ? undefined : input;
      case "tee":
        for (const { text } of operands) this.files.set(text, input);
        return input;
      case "grep":
      case "egrep":
        return args.some(({ text }) => /^-\w*v/.test(text)) && !TAKES_APART.test(joined(args).text)
          ? (content ?? input)
          : undefined;
      case "sed": {
        const inPlace = args.some(({ text }) => /^(-i|--in-place)/.test(text));
        if (inPlace) for (const { text } of operands) this.files.delete(text);
        return inPlace || TAKES_APART.test(joined(args).text) ? undefined : (content ?? input);
      }
      case "envsubst":
      case "tr":
      case "tac":
      case "dos2unix":
        return content ?? input;
    }
    return undefined;
  }

  /** A program that is not known: a script of which the text is, a fragment that is run as one, or any other. */
  #other(name: Value, base: string, args: readonly Value[], input: Carried): Carried {
    if (name.carried !== undefined) {
      this.#report("executed");
      return undefined;
    }
    const script = this.#scripts.get(name.text);
    if (script !== undefined && isShellScript(script)) return this.ownScript(script, args, input);
    // Whatever it does with the fragments comes after the flush.
    if (HARMLESS.test(base)) return undefined;
    const given = joined(args).text;
    for (const [directory, family] of this.#directories) if (given.includes(directory)) this.#loadAfterFlush(family);
    return undefined;
  }

  #shell(args: readonly Value[], input: Carried): Carried {
    const at = args.findIndex(({ text }) => /^-\w*c$/.test(text));
    if (at < 0) return this.#runFile(args.filter(isOperand), input);
    return this.ownScript(args[at + 1]?.text ?? "", args.slice(at + 3), input);
  }

  #runFile([file, ...args]: readonly Value[], input: Carried): Carried {
    if (file?.carried === "names" || (file === undefined && input === "texts")) this.#report("executed");
    const script = this.#scripts.get(file?.text ?? "");
    return script === undefined ? undefined : this.ownScript(script, args, input);
  }

  #find(args: readonly Value[]): Carried {
    const at = args.findIndex(({ text }) => /^-(exec|execdir|ok)$/.test(text));
    const names = args.some(({ carried }) => carried === "names") ? ("names" as const) : undefined;
    if (at < 0) return names;
    const words = args.slice(at + 1).filter(({ text }) => text !== ";" && text !== "+");
    return this.#forEach(words, names);
  }

  #xargs(args: readonly Value[], input: Carried): Carried {
    const at = args.findIndex(
      ({ text }, index) => !text.startsWith("-") && !/^-[InPLs]$/.test(args[index - 1]?.text ?? ""),
    );
    return at < 0 ? input : this.#forEach(args.slice(at), input);
  }

  /** A command of find's or xargs', for each name; the placeholder of the name is a word of its own, or comes last. */
  #forEach(command: readonly Value[], names: Carried): Carried {
    const name: Value = { text: "{}", carried: names };
    const words = command.map((word) => (word.text.includes("{}") ? { ...word, carried: names } : word));
    const inScript = words.some(({ text }) => /^-\w*c$/.test(text));
    if (inScript) this.variables.set("{}", name);
    if (!words.some(({ text }) => text.includes("{}"))) words.push(name);
    return this.loop(names, this.statement, () => this.program(words, undefined));
  }

  #restore(family: Program, args: readonly Value[], input: Carried): Carried {
    if (args.some(({ text }) => /^(-[a-su-z]*t[a-su-z]*|--test)$/.test(text))) return undefined;
    const operands = args.filter(
      (one, index) => isOperand(one) && !/^(-[wTWM]|--table|--wait)$/.test(args[index - 1]?.text ?? ""),
    );
    const carried = operands[0] === undefined ? input : this.contentOf(operands[0]);
    const adds = args.some(({ text }) => /^(-\w*n\w*|--noflush)$/.test(text));
    if (this.done.has(family)) this.#loadAfterFlush(family);
    else if (this.loops > 0 && !adds) this.#report("single");
    else if (carried === "texts") this.#report(adds ? "added" : "concatenated");
    return undefined;
  }

  #iptables(family: Program, args: readonly Value[]): Carried {
    const texts = args.map(({ text }) => text);
    const at = texts.findIndex((text) => /^(-F|--flush|-X|--delete-chain|-P|--policy)$/.test(text));
    const [option = "", chain] = at < 0 ? [] : texts.slice(at);
    if (/^(-F|--flush)$/.test(option) && (chain === undefined || chain.startsWith("-") || BUILT_IN.test(chain)))
      this.#flush(family);
    if (/^(-P|--policy)$/.test(option) && texts[at + 2] === "ACCEPT") this.#flush(family);
    if (args.some(({ carried }) => carried === "lines")) this.#report("lines");
    return undefined;
  }

  #flush(...families: readonly Program[]): void {
    if (this.rescues) return;
    for (const family of families) if (!this.done.has(family)) this.done.set(family, this.statement);
  }

  #loadAfterFlush(family: Program): void {
    const flush = this.done.get(family);
    if (flush !== undefined) this.#report("flushed", flush);
  }

  #report(form: WrongForm["form"], statement = this.statement): void {
    if (!this.rescues) this.found ??= { form, statement: statement.replaceAll(/\s+/g, " ").trim() };
  }
}

function isOperand({ text }: Value): boolean {
  return !text.startsWith("-") || text === "-";
}

function familyIn(command: string): Program {
  return command.includes("ip6tables") ? "ip6tables" : "iptables";
}

/** A command without its prefixes: `sudo -n`, `flock FILE`. */
function unwrapped(words: readonly Value[]): readonly Value[] {
  const [first, ...rest] = words;
  const operands = WRAPPERS[first?.text.slice(first.text.lastIndexOf("/") + 1) ?? ""];
  if (operands === undefined) return words;
  let at = 0;
  while (/^-|^\w+=/.test(rest[at]?.text ?? "")) at++;
  return rest.length > at + operands ? unwrapped(rest.slice(at + operands)) : words;
}

/** A text with another interpreter in its first line is not the shell's. */
export function isShellScript(text: string): boolean {
  const first = /^#!.*/.exec(text)?.[0];
  return first === undefined || /\b(ba|da|a|k)?sh\b/.test(first);
}
