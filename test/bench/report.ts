// What was measured, as a table of Markdown. Pure.

import type { Figure } from "./benchmarks.ts";

/** `machine`: what it was measured on, a line each. */
export function report(figures: readonly Figure[], machine: readonly string[]): string {
  return [
    "<!-- written by npm run bench -->",
    "",
    "Each line is two medians, measured in turn in one run, and their ratio. Measured on:",
    "",
    ...machine.map((fact) => `- ${fact}`),
    "",
    "| what | median | against | ratio | goal | |",
    "| --- | ---: | ---: | ---: | ---: | --- |",
    ...figures.map(row),
    "",
    "![seconds by number of ports](results.svg)",
    "",
  ].join("\n");
}

function row({ what, measured, against, ratio, goal }: Figure): string {
  const digits = ratio < 10 ? 2 : 0;
  return `| ${what} | ${measured} | ${against} | ${ratio.toFixed(digits)} | ${spellGoal(goal)} | ${verdict(ratio, goal)} |`;
}

function spellGoal(goal: Figure["goal"]): string {
  if (goal === undefined) return "";
  return "most" in goal ? `≤ ${goal.most}` : `≥ ${goal.least}`;
}

function verdict(ratio: number, goal: Figure["goal"]): string {
  if (goal === undefined) return "";
  return ("most" in goal ? ratio <= goal.most : ratio >= goal.least) ? "met" : "**not met**";
}
