// What `completion bash|zsh|fish` prints: scripts that complete verbs, options, their values and containers' names. Pure.

import { OPTIONS, type Option } from "./options.ts";
import { OTHER_WORDS, optionsOf, type SHELLS, VERBS, type Verb } from "./verbs.ts";

/** What is no name of Docker's is left out: bash evaluates the words that it chooses from, and any shell what is completed. */
const ONLY_NAMES = 'LC_ALL=C grep -x "[a-zA-Z0-9][a-zA-Z0-9_.-]*"';

/** Commands that print a name a line, asked with the host's settings; each shell understands them unchanged. */
const NAMES = {
  containers: `command docker_iptables completion containers 2>/dev/null | ${ONLY_NAMES}`,
  fragments: `command docker_iptables completion fragments 2>/dev/null | ${ONLY_NAMES}`,
  networks: `command docker_iptables completion networks 2>/dev/null | ${ONLY_NAMES}`,
};

export function completionScript(shell: (typeof SHELLS)[number]): string {
  return { bash, zsh, fish }[shell]();
}

function isDirectory({ name }: Option): boolean {
  return name.endsWith("-dir");
}

function spellings(verb: Verb): string {
  return optionsOf(verb)
    .map(({ spelling }) => spelling)
    .join(" ");
}

const verbNames = VERBS.map(({ name }) => name);
const words = [...VERBS, ...OTHER_WORDS];
const wordNames = words.map(({ name }) => name);

function bash(): string {
  const valued = OPTIONS.filter(({ value }) => value !== undefined);
  const choosing = valued.filter(({ choices }) => choices.length > 0);
  const free = valued.filter((one) => !choosing.includes(one) && !isDirectory(one) && one.name !== "network");
  const names = ({ completes }: Verb) =>
    typeof completes === "string" ? `$(${NAMES[completes]})` : completes.join(" ");
  return `# bash completion for docker_iptables, by 'docker_iptables completion bash'.
_docker_iptables() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} verb= words= i
  COMPREPLY=()
  # bash takes the = of --reload=none for a word.
  if [[ $cur == = ]]; then cur=; elif [[ $prev == = ]]; then prev=\${COMP_WORDS[COMP_CWORD-2]}; fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case \${COMP_WORDS[i]} in ${wordNames.join("|")}) verb=\${COMP_WORDS[i]}; break ;; esac
  done
  case $prev in
${choosing.map(({ spelling, choices }) => `    ${spelling}) words='${choices.join(" ")}' verb=value ;;`).join("\n")}
    --network) words=$(${NAMES.networks}) verb=value ;;
    ${valued
      .filter(isDirectory)
      .map(({ spelling }) => spelling)
      .join("|")}) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return ;;
    ${free.map(({ spelling }) => spelling).join("|")}) return ;;
  esac
  case $verb:$cur in
    value:*) ;;
    :-*) words='--help --version' ;;
    :* | help:*) words='${wordNames.join(" ")}' ;;
${VERBS.map((verb) => `    ${verb.name}:-*) words='${spellings(verb)}' ;;\n    ${verb.name}:*) words="${names(verb)}" ;;`).join("\n")}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _docker_iptables docker_iptables
`;
}

function zsh(): string {
  const listing = (name: string, command: string) => `_docker_iptables_${name}() {
  local -a names
  names=(\${(f)"$(${command})"})
  compadd -a names
}`;
  const action = (option: Option) =>
    option.choices.length > 0
      ? `(${option.choices.join(" ")})`
      : isDirectory(option)
        ? "_files -/"
        : option.name === "network"
          ? "_docker_iptables_networks"
          : "";
  const spec = (option: Option) => {
    const value = option.value === undefined ? "" : `:${option.name}:${action(option)}`;
    const text = short(option).replaceAll(/[[\]:]/g, "\\$&");
    return `'${option.spelling}${option.value === undefined ? "" : "="}[${quoted(text)}]${value}'`;
  };
  const operands = ({ completes }: Verb) =>
    typeof completes === "string" ? `'*:name:_docker_iptables_${completes}'` : `'*:word:(${completes.join(" ")})'`;
  return `#compdef docker_iptables
# zsh completion for docker_iptables, by 'docker_iptables completion zsh'.
${Object.entries(NAMES)
  .map(([name, command]) => listing(name, command))
  .join("\n")}
_docker_iptables() {
  local curcontext=$curcontext state line
  local -a verbs
  verbs=(
${words.map(({ name, summary }) => `    '${name}:${quoted(summary)}'`).join("\n")}
  )
  _arguments -C '(- *)--help[the help]' '(- *)--version[the version]' '1:verb:->verb' '*::operand:->operands'
  case $state in
    verb) _describe verb verbs ;;
    operands)
      case $words[1] in
        help) _describe verb verbs ;;
${VERBS.map((verb) => `        ${verb.name}) _arguments ${[...optionsOf(verb).map(spec), operands(verb)].join(" ")} ;;`).join("\n")}
      esac ;;
  esac
}
if [[ $funcstack[1] == _docker_iptables ]]; then _docker_iptables "$@"; else compdef _docker_iptables docker_iptables; fi
`;
}

function fish(): string {
  const complete = (...words: string[]) => ["complete -c docker_iptables", ...words].join(" ");
  const forVerb = ({ name }: Verb) => `-n '__fish_seen_subcommand_from ${name}'`;
  const value = (option: Option) =>
    option.choices.length > 0
      ? ` -x -a '${option.choices.join(" ")}'`
      : isDirectory(option)
        ? " -x -a '(__fish_complete_directories)'"
        : option.name === "network"
          ? ` -x -a '(${NAMES.networks})'`
          : option.value === undefined
            ? ""
            : " -x";
  const operands = ({ completes }: Verb) =>
    typeof completes === "string" ? `(${NAMES[completes]})` : completes.join(" ");
  return `# fish completion for docker_iptables, by 'docker_iptables completion fish'.
${[
  complete("-f"),
  complete("-n __fish_use_subcommand -l help -d 'the help'"),
  complete("-n __fish_use_subcommand -l version -d 'the version'"),
  ...words.map(({ name, summary }) => complete(`-n __fish_use_subcommand -a ${name} -d '${quoted(summary, "\\'")}'`)),
  complete(`-n '__fish_seen_subcommand_from help' -a '${verbNames.join(" ")}'`),
  ...VERBS.flatMap((verb) => [
    ...optionsOf(verb).map((option) =>
      complete(`${forVerb(verb)} -l ${option.spelling.slice(2)} -d '${quoted(short(option), "\\'")}'${value(option)}`),
    ),
    ...(operands(verb) === "" ? [] : [complete(forVerb(verb), `-a '${operands(verb)}'`)]),
  ]),
].join("\n")}
`;
}

/** The first sentence of a description; a name such as web.service or 127.x ends none. */
function short({ description }: Option): string {
  const [first = ""] = description.split(/\.(?: |$)/);
  return first;
}

/** Within single quotes; fish has another way to write one of them than the others. */
function quoted(text: string, quote = `'\\''`): string {
  return text.replaceAll("'", quote);
}
