// A packet's way from another machine to a published port, as text and as a picture, made of the same steps. Pure.

interface Rule {
  verdict: "DROP" | "ACCEPT" | "DNAT" | "MASQUERADE" | "";
  what: string;
  /** The fragment that has it. */
  file: string;
  /** The chain that the hook jumps to, where the rule is in one. */
  chain?: string;
}

interface Step {
  /** Table and chain of the kernel's. */
  hook: string;
  rules: readonly Rule[];
  /** Where a packet that nothing matches leaves the way. */
  aside?: { what: string; step: Step };
}

const FROM = "another machine";
const TO = "the container, which sees the client's own address";
const [OF_CONTAINER, FIRST, LAST] = ["container's", "10_docker", "90_docker"];
const UNLISTED: Rule = { verdict: "DROP", what: "who is not on the port's list", file: OF_CONTAINER };

const STEPS: readonly Step[] = [
  {
    hook: "raw PREROUTING",
    rules: [
      { verdict: "DROP", what: "for a port on 127.x, except from lo", file: OF_CONTAINER },
      { verdict: "DROP", what: "directly to a container's own address", file: OF_CONTAINER },
    ],
  },
  {
    hook: "nat PREROUTING",
    rules: [
      {
        chain: "DOCKER_CONTAINERS",
        verdict: "DNAT",
        what: "to the container's port",
        file: `${FIRST} ─▶ ${OF_CONTAINER}`,
      },
    ],
    aside: {
      what: "no match: to the host itself (docker-proxy, sshd, …)",
      step: { hook: "mangle INPUT", rules: [UNLISTED] },
    },
  },
  { hook: "mangle FORWARD", rules: [UNLISTED] },
  {
    hook: "filter FORWARD",
    rules: [
      { chain: "DOCKER-USER", verdict: "", what: "your rules, first", file: FIRST },
      { verdict: "DROP", what: "into or out of an internal network", file: FIRST },
      { verdict: "ACCEPT", what: "replies", file: FIRST },
      { verdict: "ACCEPT", what: "to a published port", file: OF_CONTAINER },
      { verdict: "DROP", what: "anything else into a network", file: LAST },
      { verdict: "ACCEPT", what: "what comes from a network", file: LAST },
    ],
  },
  { hook: "nat POSTROUTING", rules: [{ verdict: "MASQUERADE", what: "what leaves a network", file: FIRST }] },
];

const FILES_AT = 73;

/** The way as lines of text. */
export function packetWayText(): string {
  const line = (left: string, file = "") => `${left.padEnd(FILES_AT)}${file}`.trimEnd();
  const down = ["       │", "       ▼"];
  return [
    line(` ${FROM}`, "file"),
    ...STEPS.flatMap(({ hook, rules, aside }) => [
      ...down,
      ...rules.map((rule, index) => {
        const left = index === 0 ? ` ${hook}`.padEnd(16) + (rule.chain ? "─▶ " : "   ") : "       │".padEnd(19);
        return line(left + wordsOf(rule), rule.file);
      }),
      ...(aside === undefined ? [] : asideText(aside, line)),
    ]),
    ...down,
    ` ${TO}`,
  ].join("\n");
}

function asideText({ what, step }: NonNullable<Step["aside"]>, line: (left: string, file: string) => string): string[] {
  const rules = step.rules.map((rule) => line(`       │  ${step.hook}   ${wordsOf(rule)}`, rule.file));
  return ["       │", `       ├─ ${what}`, ...rules];
}

function wordsOf({ chain, verdict, what }: Rule): string {
  return [...(chain ? [`${chain} `] : []), ...(verdict ? [verdict.padEnd(6)] : []), what].join(" ");
}

const [WIDTH, ROW, MARGIN, RULES_AT, ASIDE_AT] = [860, 28, 24, 200, 176];
const HOOK = { width: 150, middle: MARGIN + 75 };

/** The way as an SVG with a background of its own, light or dark as the reader's screen is. */
export function packetWaySvg(): string {
  const parts: string[] = [];
  let y = MARGIN + 14;
  const arrow = (from: number, to: number) =>
    parts.push(`<path class="line" d="M${HOOK.middle} ${from}V${to - 2}" marker-end="url(#tip)"/>`);
  parts.push(text(MARGIN, y, "end", FROM), text(WIDTH - MARGIN, y, "file", "file", "end"));
  let left = y + 8;
  y += 36;
  for (const { hook, rules, aside } of STEPS) {
    arrow(left, y - 18);
    parts.push(box(MARGIN, y, hook), ...rules.flatMap((rule, index) => row(RULES_AT, y + index * ROW, rule)));
    left = y + 10;
    y += rules.length * ROW;
    if (aside !== undefined) {
      parts.push(`<path class="line" d="M${HOOK.middle} ${y - 5}H${ASIDE_AT - 4}" marker-end="url(#tip)"/>`);
      parts.push(text(ASIDE_AT + 8, y, "what", aside.what));
      y += ROW + 4;
      parts.push(box(ASIDE_AT, y, aside.step.hook));
      parts.push(...aside.step.rules.flatMap((rule) => row(ASIDE_AT + HOOK.width + 26, y, rule)));
      y += ROW;
    }
    y += 18;
  }
  arrow(left, y - 14);
  parts.push(text(MARGIN, y + 4, "end", TO));
  const height = y + MARGIN + 4;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="A packet's way from another machine to a published port">
<!-- Made of schema/packet-way.ts by \`npm run readme\`: do not edit. -->
<style>${STYLE}</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>
<rect class="page" x=".5" y=".5" width="${WIDTH - 1}" height="${height - 1}" rx="8"/>
${parts.join("\n")}
</svg>
`;
}

const STYLE = `
text { font: 14px ui-sans-serif, system-ui, "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; fill: #1f2328 }
.page { fill: #ffffff; stroke: #d0d7de }
.box { fill: #eaf1fb; stroke: #5b7fb5 }
.hook, .chain, .verdict { font-weight: 600; font-size: 13px }
.end { font-weight: 600 }
.file { fill: #59636e; font-size: 13px }
.line { stroke: #5b7fb5; stroke-width: 1.5; fill: none }
.tip { fill: #5b7fb5 }
.DROP { fill: #b3261e }
.ACCEPT { fill: #1a7f37 }
.DNAT, .MASQUERADE { fill: #8250df }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.page { fill: #161b22; stroke: #30363d }
.box { fill: #1f2d44; stroke: #6f97d3 }
.file { fill: #9da7b1 }
.line { stroke: #6f97d3 }
.tip { fill: #6f97d3 }
.DROP { fill: #ff8178 }
.ACCEPT { fill: #56d364 }
.DNAT, .MASQUERADE { fill: #c297ff }
}
`;

function box(x: number, y: number, hook: string): string {
  const frame = `<rect class="box" x="${x}" y="${y - 18}" width="${HOOK.width}" height="26" rx="4"/>`;
  return `${frame}${text(x + HOOK.width / 2, y, "hook", hook, "middle")}`;
}

function row(x: number, y: number, { chain, verdict, what, file }: Rule): string[] {
  const jump = chain === undefined ? [] : [text(x - 20, y, "what", "▸"), text(x, y, "chain", chain)];
  const verdictAt = chain === undefined ? x : x + 10 * chain.length + 14;
  const whatAt = verdictAt + (verdict === "" ? 0 : Math.max(68, 11 * verdict.length));
  return [
    ...jump,
    ...(verdict === "" ? [] : [text(verdictAt, y, `verdict ${verdict}`, verdict)]),
    text(whatAt, y, "what", what),
    text(WIDTH - MARGIN, y, "file", file.replace("─▶", "→"), "end"),
  ];
}

function text(x: number, y: number, of: string, words: string, anchor = "start"): string {
  return `<text class="${of}" x="${x}" y="${y}" text-anchor="${anchor}">${words.replaceAll("&", "&amp;")}</text>`;
}
