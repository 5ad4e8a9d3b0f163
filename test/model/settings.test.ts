// The settings' text: what is read is what was written, and their schema agrees with what the executable takes.

import { readFileSync } from "node:fs";
import { Ajv } from "ajv";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import argumentsSchema from "../../schema/arguments.schema.json" with { type: "json" };
import schema from "../../schema/settings.schema.json" with { type: "json" };
import { Failure } from "../../src/model/errors.ts";
import { readSettings, SETTING_NAMES, type Settings, settingsIn, settingsText } from "../../src/model/settings.ts";

const PATH = "/etc/docker_iptables.json";

function complaint(text: string): string {
  try {
    readSettings(text, PATH);
    return "none";
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    expect(error.code).toBe("settings_unusable");
    expect(error.facts).toEqual({ path: PATH });
    return error.message;
  }
}

const name = fc.stringMatching(/^[a-z][a-z0-9_]{0,10}$/);
const SOURCE = fc.constantFrom("192.0.2.0/24", "10.0.0.1", "wg0");
const SETTINGS: fc.Arbitrary<Settings> = fc.record(
  {
    watch: fc.boolean(),
    guards: fc.boolean(),
    chain: name.map((word) => `X_${word}`),
    ipv6: fc.boolean(),
    network: name,
    iptables_dir: name.map((word) => `/srv/${word}`),
    ip6tables_dir: name.map((word) => `/srv/${word}6`),
    nftables_dir: name.map((word) => `/srv/${word}n`),
    reload: fc.constantFrom("systemd", "restore", "patch", "none"),
    iptables_service: name,
    ip6tables_service: name,
    nftables_service: name,
    nftables_include: fc.boolean(),
    backend: fc.constantFrom("iptables", "nft"),
    wait_timeout: fc.integer({ min: 0, max: 86400 }),
    timeout: fc.integer({ min: 1, max: 3600 }),
    client: name,
    docker_host: name.map((word) => `unix:///run/${word}.sock`),
    allow: fc.dictionary(fc.constantFrom("*", "8080", "8443/tcp", "192.0.2.1:53/udp"), fc.array(SOURCE)),
    labels: fc.constantFrom("narrow", "trusted"),
    sources: fc.dictionary(fc.constantFrom("office", "vpn"), fc.array(SOURCE)),
  },
  { requiredKeys: [] },
);

/** What is the host's alone is no argument. */
const ARGUMENTS = SETTING_NAMES.filter((word) => word !== "sources" && word !== "labels");

test("every setting is an argument, and the property here makes each", () => {
  expect(Object.keys(argumentsSchema.properties)).toEqual(expect.arrayContaining(ARGUMENTS));
  const seen = new Set(fc.sample(SETTINGS, 500).flatMap((settings) => Object.keys(settings)));
  expect([...seen].sort()).toEqual([...SETTING_NAMES].sort());
});

test("what is written is read, and written the same in any order of the names", () => {
  fc.assert(
    fc.property(SETTINGS, (settings) => {
      const text = settingsText(settings);
      expect(readSettings(text, PATH)).toEqual(settings);
      const turned = Object.fromEntries(Object.entries(settings).reverse());
      expect(settingsText(turned)).toBe(text);
    }),
  );
});

test("only what is given is in force: no default is filled in", () => {
  expect(readSettings("{}", PATH)).toEqual({});
  expect(readSettings('{"ipv6": true}', PATH)).toEqual({ ipv6: true });
});

test("the schema takes what the executable takes, and refuses what it refuses", () => {
  const ajv = new Ajv({ allowUnionTypes: true, strict: false });
  ajv.addSchema(argumentsSchema);
  const valid = ajv.compile(schema);
  const wrong = fc.record(
    Object.fromEntries(
      [...SETTING_NAMES, "container", "state", "base", "ipv"].map((word) => [
        word,
        fc.oneof(
          fc.boolean(),
          fc.integer(),
          fc.string(),
          fc.constant("docker"),
          fc.constant("/srv/x"),
          fc.constant(null),
        ),
      ]),
    ),
    { requiredKeys: [] },
  );
  const isUsed = (text: string) => complaint(text) === "none";
  fc.assert(
    fc.property(fc.oneof(SETTINGS, wrong), (settings) => {
      const { iptables_dir, ip6tables_dir } = settingsIn(settings);
      // That a path is absolute is beyond the arguments' schema.
      const isAbsolute = [iptables_dir, ip6tables_dir].every(
        (path) => typeof path !== "string" || path.startsWith("/"),
      );
      expect(isUsed(JSON.stringify(settings))).toBe(valid(settings) && isAbsolute);
    }),
  );
});

describe("what cannot be used is named, with what is wrong", () => {
  test.each([
    ["not JSON", '{"ipv6": true,}', "it is not valid JSON: "],
    ["no object", "[]", "it is not a JSON object"],
    ["null", "null", "it is not a JSON object"],
    ["an unknown name", '{"ip6": true}', "it has no setting 'ip6' (did you mean ipv6?)"],
    ["a name of every object's", '{"constructor": 1}', "it has no setting 'constructor'"],
    ["an argument of one call", '{"container": ["web"]}', "it has no setting 'container'"],
    ["another type", '{"ipv6": "yes"}', 'ipv6 must be of the type boolean, got: "yes"'],
    ["a value out of range", '{"timeout": 0}', "timeout must be a number of seconds from 1 to 3600, got: 0"],
    [
      "none of the words",
      '{"reload": "pach"}',
      "value of reload must be one of: systemd, restore, patch, none, got: pach",
    ],
    ["trust that is none", '{"labels": "all"}', 'labels must be narrow or trusted, got: "all"'],
    ["a group that holds a name", '{"sources": {"office": ["example.com"]}}', "allow: '@office' allows 'example.com'"],
    ["a list with an unknown group", '{"allow": {"*": ["@office"]}}', "allow: '*' allows @office, which is no group"],
    ["Docker's own chain", '{"chain": "DOCKER"}', "chain must not be DOCKER or DOCKER-*"],
    ["a relative path", '{"iptables_dir": "rules.d"}', 'iptables_dir must be an absolute path, got: "rules.d"'],
    ["a control character", '{"client": "/bin/\\u001b[2J"}', "client must be the name or the absolute path"],
  ])("%s", (_, text, why) => {
    const message = complaint(text);
    expect(message).toContain(`the settings in ${PATH} cannot be used: ${why}`);
    // Without the file a setup would forget what was chosen: that is no advice.
    expect(message).toMatch(/; correct it$/);
  });
});

test("the schema's references lead to the arguments", () => {
  const text = readFileSync(new URL("../../schema/settings.schema.json", import.meta.url), "utf8");
  for (const word of ARGUMENTS) expect(text).toContain(`"${word}": { "$ref": "arguments#/properties/${word}" }`);
});
