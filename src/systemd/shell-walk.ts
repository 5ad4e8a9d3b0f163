// Walks a shell script's syntax in the order in which it would run, never running it, and follows where a directory's files are
// used: their names, their concatenated texts, single lines of these; through variables, pipes, files, loops, functions and
// branches. What a program does with them is for the subclass to say. Pure.

import {
  type AndOr,
  type Case,
  type Command,
  type For,
  type If,
  type PipelineNode,
  parse,
  type Redirection,
  type Statement,
  type TestExpression,
  type While,
  type Word,
  type WordPart,
} from "unbash";

/** What of the files a stream, a file or a variable holds. */
export type Carried = "names" | "texts" | "lines" | undefined;

export interface Value {
  text: string;
  carried: Carried;
}

type Ended = "exit" | "return" | undefined;

/** What is not known at all. */
export const NOTHING: Value = { text: "", carried: undefined };

const MOST_STEPS = 20_000;
const MOST_DEPTH = 20;

export abstract class ShellWalk {
  protected readonly variables = new Map<string, Value>();
  /** What is in files that were written on the way. */
  protected readonly files = new Map<string, Carried>();
  protected positional: readonly Value[] = [];
  /** What has been done on the way here, and the command that did it. */
  protected done = new Map<string, string>();
  protected ended: Ended;
  /** How many loops over the files we are in. */
  protected loops = 0;
  readonly #directories: readonly string[];
  readonly #functions = new Map<string, { body: readonly Statement[]; source: string }>();
  #inside = "";
  #unseen = 0;
  #source = "";
  #statement = "";
  #steps = 0;
  #depth = 0;

  constructor(directories: readonly string[]) {
    this.#directories = directories;
  }

  /** A command's words, expanded; returns what it prints. */
  protected abstract program(words: readonly Value[], input: Carried): Carried;

  /** The command that is looked at, as it is written: the loop over the files, if it is in one. */
  protected get statement(): string {
    return this.loops > 0 ? this.#inside : this.#statement;
  }

  /** Whether this happens only after something else has failed. */
  protected get rescues(): boolean {
    return this.#unseen > 0;
  }

  protected callFunction(name: string, args: readonly Value[], input: Carried): { output: Carried } | undefined {
    const called = this.#functions.get(name);
    if (called === undefined) return undefined;
    const output = this.#within(called.source, args, () => this.#list(called.body, input));
    if (this.ended === "return") this.ended = undefined;
    return { output };
  }

  /** A script of its own: its `exit` ends nothing else. */
  protected ownScript(source: string, args: readonly Value[], input: Carried): Carried {
    const output = this.script(source, args, input);
    this.ended = undefined;
    return output;
  }

  protected script(source: string, args: readonly Value[], input: Carried): Carried {
    return this.#within(source, args, () => this.#list(parse(source).commands, input));
  }

  #within(source: string, args: readonly Value[], step: () => Carried): Carried {
    if (this.#depth >= MOST_DEPTH) return undefined;
    const [outer, positional] = [this.#source, this.positional];
    this.#depth++;
    this.#source = source;
    this.positional = args;
    const output = step();
    this.#depth--;
    this.#source = outer;
    this.positional = positional;
    return output;
  }

  #list(statements: readonly Statement[], input: Carried): Carried {
    let output: Carried;
    for (const statement of statements) {
      if (this.ended !== undefined || this.#steps++ > MOST_STEPS) break;
      this.#statement = this.#source.slice(statement.pos, statement.end);
      output = this.#node(statement.command, input) ?? output;
    }
    return output;
  }

  #node(node: PipelineNode | AndOr, input: Carried): Carried {
    switch (node.type) {
      case "Command":
        return this.#command(node, input);
      case "Pipeline":
        return node.commands.reduce((stream: Carried, command) => {
          const output = this.#node(command, stream);
          this.#statement = this.#source.slice(node.pos, node.end);
          return output;
        }, input);
      case "AndOr":
        return this.#andOr(node, input);
      case "If":
        return this.#if(node, input);
      case "For":
        return this.#for(node, input);
      case "While":
        return this.#while(node, input);
      case "Case":
        return this.#case(node, input);
      case "Subshell":
      case "BraceGroup": {
        const output = this.#list(node.body.commands, input);
        if (node.type === "Subshell") this.ended = undefined;
        return output;
      }
      case "Redirected": {
        const from = this.#input(node.redirects);
        return this.#redirect(node.redirects, this.#node(node.command, from === undefined ? input : from.carried));
      }
      case "Function":
        this.#functions.set(node.name.value, {
          body: "commands" in node.body ? node.body.commands : [statementOf(node.body)],
          source: this.#source,
        });
        return undefined;
      default:
        return undefined;
    }
  }

  #andOr({ commands, operators }: AndOr, input: Carried): Carried {
    let output: Carried;
    let holds: boolean | undefined;
    for (const [index, command] of commands.entries()) {
      const operator = operators[index - 1];
      if ((operator === "&&" && holds === false) || (operator === "||" && holds === true)) continue;
      const before = commands[index - 1];
      const rescues = operator === "||" && before !== undefined && !isTest(before);
      const step = () => this.#node(command, input);
      const known = operator === undefined || holds !== undefined;
      output = (rescues ? this.#aside(step) : known ? step() : this.#branch([step, () => undefined])) ?? output;
      holds = this.#decide([statementOf(command)]);
    }
    return output;
  }

  /** What happens only after something else has failed. */
  #aside(step: () => Carried): Carried {
    const [flushed, ended] = [new Map(this.done), this.ended];
    this.#unseen++;
    const output = step();
    this.#unseen--;
    this.done = flushed;
    this.ended = ended;
    return output;
  }

  #if(node: If, input: Carried): Carried {
    const open: (() => Carried)[] = [];
    for (const arm of [node, ...node.elif]) {
      this.#list(arm.clause.commands, input);
      const holds = this.#decide(arm.clause.commands);
      if (holds !== false) open.push(() => this.#list(arm.then.commands, input));
      if (holds === true) return this.#branch(open);
    }
    return this.#branch([...open, () => this.#list(node.else?.commands ?? [], input)]);
  }

  /** What `[ A = B ]` comes to, where both sides are known. */
  #decide([statement, ...more]: readonly Statement[]): boolean | undefined {
    const node = statement?.command;
    if (more.length > 0 || node === undefined) return undefined;
    if (node.type === "TestCommand") return this.#test(node.expression);
    if (node.type !== "Command" || !/^(\[|test)$/.test(node.name?.value ?? "")) return undefined;
    const words = node.args.filter((word) => word.type === "Word");
    const [left, operator, right, last] = words;
    if (left === undefined || right === undefined || (last !== undefined && last.value !== "]")) return undefined;
    return this.#equal(left, operator?.value ?? "", right);
  }

  #test(expression: TestExpression): boolean | undefined {
    return expression.type === "TestBinary"
      ? this.#equal(expression.left, expression.operator, expression.right)
      : undefined;
  }

  #equal(a: Word, operator: string, b: Word): boolean | undefined {
    const [left, right] = [this.#word(a).text, this.#word(b).text];
    if (!isKnown(left) || !isKnown(right) || !/^(=|==|!=)$/.test(operator)) return undefined;
    return (left === right) === (operator !== "!=");
  }

  #case({ word, items }: Case, input: Carried): Carried {
    const { text } = this.#word(word);
    if (!isKnown(text))
      return this.#branch(
        items.map(
          ({ body }) =>
            () =>
              this.#list(body.commands, input),
        ),
      );
    const item = items.find(({ pattern }) => pattern.some(({ value }) => value === text || value === "*"));
    return item && this.#list(item.body.commands, input);
  }

  /** One of these happens. */
  #branch(arms: readonly (() => Carried)[]): Carried {
    const before = this.done;
    const after = new Map<string, string>();
    const ends: Ended[] = [];
    let output: Carried;
    for (const arm of arms) {
      this.done = new Map(before);
      this.ended = undefined;
      output = arm() ?? output;
      ends.push(this.ended);
      if (this.ended === undefined) for (const [what, statement] of this.done) after.set(what, statement);
    }
    this.done = after;
    this.ended = ends.includes(undefined) ? undefined : ends[0];
    return output;
  }

  #for({ name, wordlist, body, pos, end }: For, input: Carried): Carried {
    const list = joined(wordlist === undefined ? this.positional : wordlist.map((word) => this.#word(word)));
    const each = { text: list.text, carried: list.carried === "texts" ? ("lines" as const) : list.carried };
    this.variables.set(name.value, each);
    // Over the directories themselves is not over the fragments.
    const over = /[*?[$`{]/.test(each.text) ? each.carried : undefined;
    return this.loop(over, this.#source.slice(pos, end), () => this.#list(body.commands, input));
  }

  #while({ clause, body, pos, end }: While, input: Carried): Carried {
    const each = input === "texts" ? "lines" : input;
    return this.loop(each, this.#source.slice(pos, end), () => {
      this.#list(clause.commands, input);
      return this.#list(body.commands, input);
    });
  }

  protected loop(over: Carried, statement: string, body: () => Carried): Carried {
    if (over === undefined) return body();
    const outer = this.#inside;
    if (this.loops === 0) this.#inside = statement;
    this.loops++;
    const output = body();
    this.loops--;
    this.#inside = outer;
    return output;
  }

  #command(node: Command, input: Carried): Carried {
    const assignments = [...node.prefix, ...node.suffix].filter((one) => one.type === "Assignment");
    for (const { name, value, append } of assignments) {
      const now =
        value.type === "ArrayValue" ? joined(value.elements.map((word) => this.#word(word))) : this.#word(value);
      this.variables.set(name, append ? joined([this.variables.get(name) ?? NOTHING, now]) : now);
    }
    if (node.name === undefined) return undefined;
    const words = [node.name, ...node.args.filter((word) => word.type === "Word")].map((word) => this.#word(word));
    const from = this.#input(node.redirects);
    return this.#redirect(node.redirects, this.program(words, from === undefined ? input : from.carried));
  }

  /** What is redirected to a command's input; a file that is one of the fragments has a fragment's text. */
  #input(redirects: readonly Redirection[]): Value | undefined {
    for (const one of redirects) {
      if (one.type === "HereDoc") return { text: "", carried: undefined };
      if (one.target === undefined || !(one.operator === "<" || one.operator === "<<<")) continue;
      const value = this.#word(one.target);
      return one.operator === "<" ? { text: value.text, carried: this.contentOf(value) } : value;
    }
    return undefined;
  }

  #redirect(redirects: readonly Redirection[], output: Carried): Carried {
    let left = output;
    for (const one of redirects) {
      if (one.type !== "Redirect" || one.target === undefined || !one.operator.includes(">")) continue;
      if (one.descriptor?.type === "FileDescriptor" && one.descriptor.value !== 1) continue;
      if (one.operator === ">&") continue;
      const { text } = this.#word(one.target);
      this.files.set(text, one.operator.includes(">>") ? (output ?? this.files.get(text)) : output);
      left = undefined;
    }
    return left;
  }

  protected contentOf({ text, carried }: Value): Carried {
    if (this.files.has(text)) return this.files.get(text);
    return carried === "names" ? "texts" : undefined;
  }

  /** A text that is whole: a directory's fragments, or no more than a text. */
  protected valueOf(text: string): Value {
    const isFragments = this.#directories.some((directory) =>
      text
        .split(/\s+/)
        .some(
          (word) =>
            word === directory ||
            (word.startsWith(`${directory}/`) && /[*?[]|^\/*$/.test(word.slice(directory.length))),
        ),
    );
    return { text, carried: isFragments ? "names" : undefined };
  }

  #word({ parts, value }: Word): Value {
    const values = parts === undefined ? [{ text: value, carried: undefined }] : parts.map((part) => this.#part(part));
    const text = values.map((one) => one.text).join("");
    const carried = values.map((one) => one.carried).find((one) => one !== undefined);
    const isGlob = parts?.some(({ type }) => type === "Glob") ?? false;
    const here = this.variables.get("PWD")?.carried === "names" && isGlob && !text.startsWith("/");
    // A file of the directory that is named is not its fragments.
    if (carried === "names" && this.#isOneFile(text)) return { text, carried: undefined };
    return { text, carried: carried ?? (here ? "names" : this.valueOf(text).carried) };
  }

  /** DIRECTORY/NAME, where the variable before it held the directory. */
  #isOneFile(text: string): boolean {
    return this.#directories.some(
      (directory) => text.startsWith(`${directory}/`) && !/[*?[$`\s{]/.test(text) && text.length > directory.length + 1,
    );
  }

  #part(part: WordPart): Value {
    switch (part.type) {
      case "DoubleQuoted":
      case "LocaleString": {
        const values = part.parts.map((child) => this.#part(child));
        return { text: values.map(({ text }) => text).join(""), carried: joined(values).carried };
      }
      case "SimpleExpansion":
        return this.#parameter(part.text.slice(1), part.text);
      case "ParameterExpansion": {
        const known = this.#parameter(part.parameter, part.text);
        const { operation } = part;
        if (operation?.type === "Default" && operation.operator.endsWith("-") && !isKnown(known.text))
          return this.#word(operation.operand);
        return operation === undefined || operation.type === "Default" ? known : { ...known, text: part.text };
      }
      case "CommandExpansion":
      case "ProcessSubstitution": {
        const carried = part.script && this.#quietly(part.script.commands);
        if (part.type === "ProcessSubstitution") this.files.set(part.text, carried);
        return { text: part.text, carried: part.type === "ProcessSubstitution" ? undefined : carried };
      }
      default:
        return { text: "value" in part ? part.value : part.text, carried: undefined };
    }
  }

  #quietly(commands: readonly Statement[]): Carried {
    const [ended, statement] = [this.ended, this.#statement];
    const output = this.#list(commands, undefined);
    this.ended = ended;
    this.#statement = statement;
    return output;
  }

  #parameter(name: string, text: string): Value {
    if (/^\d$/.test(name) && name !== "0") return this.positional[Number(name) - 1] ?? { text, carried: undefined };
    if (name === "@" || name === "*") return joined(this.positional);
    return this.variables.get(name) ?? { text, carried: undefined };
  }
}

function isTest(node: PipelineNode): boolean {
  return node.type === "TestCommand" || (node.type === "Command" && /^(\[|test)$/.test(node.name?.value ?? ""));
}

function statementOf(command: Statement["command"]): Statement {
  return { type: "Statement", pos: command.pos, end: command.end, command, background: undefined };
}

export function joined(values: readonly Value[]): Value {
  return {
    text: values.map(({ text }) => text).join(" "),
    carried: values.map(({ carried }) => carried).find((carried) => carried !== undefined),
  };
}

/** Whether nothing in it is left to be expanded. */
export function isKnown(text: string): boolean {
  return !/[$`]/.test(text);
}
