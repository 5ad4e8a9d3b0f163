// Surfaces of the doors: arguments as JSON, words of a command line.

import fc from "fast-check";
import { expect } from "vitest";
import schema from "../../schema/arguments.schema.json" with { type: "json" };
import { readCommand, UsageError } from "../../src/cli/command.ts";
import { readRequest } from "../../src/cli/request.ts";
import { VERBS } from "../../src/cli/verbs.ts";
import { validate } from "../../src/generated/validate-arguments.js";
import { Failure } from "../../src/model/errors.ts";
import { NO_SETTINGS } from "../../src/model/settings.ts";
import { mutated, text, value } from "./hostile.ts";
import { type Surface, surface } from "./surface.ts";

const PLAIN = { container: ["web"], state: "present", reload: "systemd", timeout: 10, ipv6: true, network: "front" };
const names = [...Object.keys(schema.properties), "name", "_ansible_check_mode", "_task", "ANSIBLE_MODULE_ARGS"];

const given = fc.oneof(
  mutated([PLAIN, { all: true }, { base: true, adopt: true }]),
  fc.dictionary(fc.oneof(fc.constantFrom(...names), text), value, { maxKeys: 6 }),
);

const words = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom(...VERBS.map(({ name }) => name), "help", "version", "web", "ipv4") },
    {
      weight: 3,
      arbitrary: fc.constantFrom(...VERBS.flatMap(({ options }) => options.map((option) => `--${option}`))),
    },
    { weight: 2, arbitrary: text },
    { weight: 1, arbitrary: text.map((one) => `--${one}`) },
  ),
  { minLength: 1, maxLength: 6 },
);

export const ARGUMENTS: readonly Surface[] = [
  surface(
    "arguments",
    3000,
    fc.property(given, (raw) => {
      fc.pre(typeof raw === "object" && raw !== null && !Array.isArray(raw));
      try {
        const { args } = readRequest(raw as Record<string, unknown>, { env: { HOME: "/root" }, cwd: "/" }, NO_SETTINGS);
        const { container, ...others } = structuredClone(args);
        expect(validate(container.length > 0 ? { ...others, container } : others)).toBe(true);
        for (const path of [args.iptables_dir, args.ip6tables_dir]) expect(path).toMatch(/^\//);
      } catch (error) {
        expect(error).toBeInstanceOf(Failure);
        expect(error).toMatchObject({ code: "arguments_invalid" });
        expect((error as Failure).message.length).toBeLessThan(5000);
      }
    }),
  ),
  surface(
    "command line",
    3000,
    fc.property(words, (argv) => {
      try {
        const command = readCommand(argv);
        // A word that is not a verb is never taken for one.
        if ("verb" in command) expect(VERBS.map(({ name }) => name)).toContain(command.verb);
      } catch (error) {
        expect(error).toBeInstanceOf(UsageError);
      }
    }),
  ),
];
