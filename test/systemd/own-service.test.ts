// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are the shell's
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { judgeService } from "../../src/systemd/own-service.ts";

const DIRECTORIES = [
  ["ipv4", "/etc/iptables.d"],
  ["ipv6", "/etc/ip6tables.d"],
] as const;
const SCRIPT = "/usr/local/sbin/firewall";

/** As `systemctl show` prints a command (252). */
function shown(argv: string): string {
  const [path] = argv.split(" ");
  return `{ path=${path} ; argv[]=${argv} ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }`;
}

function judgeUnit(commands: Record<string, string | string[]>, scripts: Record<string, string> = {}) {
  const properties = Object.entries(commands).map(
    ([name, argv]) => [name, name === "Environment" ? String(argv) : [argv].flat().map(shown).join("\n")] as const,
  );
  return judgeService(new Map(properties), new Map(Object.entries(scripts)), DIRECTORIES);
}

/** A service that starts and reloads with one line of shell. */
function judgeLine(line: string) {
  return judgeUnit({ ExecStart: `/bin/sh -c ${line}`, ExecReload: `/bin/sh -c ${line}` });
}

function judgeScript(script: string, argument = "start") {
  const argv = `${SCRIPT} ${argument}`.trim();
  return judgeUnit({ ExecStart: argv, ExecReload: argv }, { [SCRIPT]: script });
}

describe("a line of shell in the unit that is wrong", () => {
  test.each([
    ["concatenated", "cat /etc/iptables.d/* | iptables-restore"],
    ["concatenated", "cat /etc/iptables.d/*.rules | /usr/sbin/iptables-restore --wait 10"],
    ["concatenated", "/bin/cat /etc/iptables.d/[0-9]* 2>/dev/null | iptables-nft-restore -w 5"],
    ["concatenated", "cat /etc/iptables/base.v4 /etc/iptables.d/* | iptables-restore"],
    ["concatenated", "cat /etc/iptables.d/* | grep -v ^# | iptables-restore"],
    ["concatenated", "sed -e '/^#/d' -e '/^$/d' /etc/iptables.d/* | iptables-restore"],
    ["concatenated", "cat /etc/iptables.d/* | envsubst | tee /run/rules | iptables-restore"],
    ["concatenated", "cat /etc/iptables.d/* > /run/rules; iptables-restore /run/rules"],
    [
      "concatenated",
      "cat /etc/iptables.d/* > /run/rules && iptables-restore --test /run/rules && iptables-restore < /run/rules",
    ],
    ["concatenated", 'iptables-restore <<< "$(cat /etc/iptables.d/*)"'],
    ["concatenated", "iptables-restore < <(cat /etc/iptables.d/*)"],
    ["concatenated", "find /etc/iptables.d -type f | sort -V | xargs cat | iptables-restore"],
    ["concatenated", "find /etc/iptables.d -type f -exec cat {} + | iptables-restore"],
    ["concatenated", "{ echo '*filter'; cat /etc/iptables.d/*; echo COMMIT; } | iptables-restore"],
    ["concatenated", "for f in /etc/iptables.d/*; do cat $$f; done | iptables-restore"],
    ["concatenated", "cat /etc/iptables.d/* | sudo -n iptables-restore"],
    ["concatenated", "ip6tables-restore < /etc/v6.rules; exec iptables-restore < <(cat /etc/iptables.d/*)"],
    ["concatenated", "set -e; . /etc/default/fw; cd /etc/iptables.d && cat * | iptables-restore"],
    ["concatenated", "flock /run/fw.lock sh -c 'cat /etc/iptables.d/* | iptables-restore'"],
    ["single", "for f in /etc/iptables.d/*; do iptables-restore < $$f; done"],
    ["single", "for f in /etc/iptables.d/*.v4; do [ -r $$f ] && iptables-restore $$f || exit 1; done"],
    ["single", "for f in $(ls /etc/iptables.d); do iptables-restore /etc/iptables.d/$$f; done"],
    ["single", "for f in /etc/iptables.d/*; do cat $$f | iptables-restore; done"],
    ["single", "ls /etc/iptables.d/* | while read f; do iptables-restore < $$f; done"],
    ["single", "find /etc/iptables.d -type f -exec iptables-restore {} \\;"],
    ["single", "find /etc/iptables.d -type f -print0 | xargs -0 -n1 iptables-restore"],
    ["single", "find /etc/iptables.d -type f | xargs -I{} sh -c 'iptables-restore < {}'"],
    ["added", "for f in /etc/iptables.d/*; do iptables-restore --noflush < $$f; done"],
    ["added", "for f in /etc/iptables.d/*; do iptables-restore -n $$f; done"],
    ["added", "cat /etc/iptables/iptables.rules /etc/iptables.d/*.rules | iptables-restore -n"],
    ["added", "ls /etc/iptables.d/* | xargs -n1 iptables-restore -nw"],
    ["flushed", "iptables -F; cat /etc/iptables.d/* | iptables-restore -n"],
    ["flushed", "iptables -P INPUT ACCEPT && for f in /etc/iptables.d/*; do iptables-restore -n < $$f; done"],
    ["flushed", "iptables -t nat -F PREROUTING; awk -f /etc/merge.awk /etc/iptables.d/* | iptables-restore"],
    ["flushed", "nft flush ruleset; /usr/local/bin/assemble /etc/iptables.d | iptables-restore"],
    ["flushed", "ip6tables --flush; /usr/local/bin/assemble /etc/ip6tables.d | ip6tables-restore"],
    ["flushed", "iptables -F; /usr/local/bin/load-all /etc/iptables.d"],
    ["flushed", "iptables -F; docker_iptables load ipv4"],
    ["lines", "cat /etc/iptables.d/* | while read line; do iptables $$line; done"],
    ["lines", "for f in /etc/iptables.d/*; do while read -r rule; do iptables -w $$rule; done < $$f; done"],
    ["executed", "for f in /etc/iptables.d/*; do . $$f; done"],
    ["executed", "for f in /etc/iptables.d/*; do [ -x $$f ] && $$f; done"],
    ["executed", "for f in /etc/iptables.d/*; do sh $$f start; done"],
    ["executed", "run-parts /etc/iptables.d"],
    ["executed", "run-parts --regex '.*' /etc/iptables.d"],
    ["executed", "cat /etc/iptables.d/* | sh"],
    ["executed", "find /etc/iptables.d -type f -exec sh {} \\;"],
  ])("%s: %s", (form, line) => {
    expect(judgeLine(line)).toMatchObject({ kind: "wrong", form });
  });
});

describe("a script that is wrong", () => {
  test.each<[string, string, string]>([
    ["concatenated", "variables", 'DIR=/etc/iptables.d\nRESTORE=/sbin/iptables-restore\ncat "$DIR"/* | $RESTORE\n'],
    ["concatenated", "a default", 'cat "${RULES_DIR:-/etc/iptables.d}"/* | iptables-restore\n'],
    ["concatenated", "a command that is looked for", 'cat /etc/iptables.d/* | "$(which iptables-restore)"\n'],
    ["concatenated", "a text in a variable", 'rules=$(cat /etc/iptables.d/*)\necho "$rules" | iptables-restore\n'],
    [
      "concatenated",
      "a file made in a loop",
      'T=$(mktemp)\nfor f in /etc/iptables.d/*; do\n  cat "$f" >> "$T"\ndone\nmv "$T" /run/rules\niptables-restore < /run/rules\n',
    ],
    [
      "concatenated",
      "find, xargs and a file",
      "T=`mktemp -q`\nfind /etc/iptables.d -name '*.rules' | grep -v denied | sort -V | xargs cat > ${T}\nif $(iptables-restore -t $T); then\n mv ${T} /etc/iptables/rules.v4\n iptables-restore < /etc/iptables/rules.v4\nfi\n",
    ],
    [
      "concatenated",
      "functions",
      'assemble() {\n  cat /etc/iptables.d/*\n}\nstart() { assemble | iptables-restore; }\ncase "$1" in\n  start|reload) start ;;\n  stop) exit 0 ;;\nesac\n',
    ],
    [
      "concatenated",
      "a condition",
      "[ -d /etc/iptables.d ] || exit 0\nif ! cat /etc/iptables.d/* | iptables-restore; then logger failed; fi\n",
    ],
    [
      "single",
      "a loop over both families",
      'for f in /etc/iptables.d/*.rules; do\n  case $f in\n    *6.rules) ip6tables-restore < "$f" ;;\n    *) iptables-restore < "$f" ;;\n  esac\ndone\n',
    ],
    ["single", "arguments", 'load() { for f in "$1"/*; do iptables-restore "$f"; done; }\nload /etc/iptables.d\n'],
    ["single", "positional arguments", 'set -- /etc/iptables.d/*\nfor f; do iptables-restore "$f"; done\n'],
    [
      "flushed",
      "a function that flushes",
      'IPT=/sbin/iptables\nflush() { $IPT -F; $IPT -t nat -F; }\nload() { awk -f x /etc/iptables.d/* | $IPT-restore; }\ncase "$1" in start|restart) flush; load ;; stop) flush ;; esac\n',
    ],
    [
      "flushed",
      "a reset of all tables",
      "for t in $(cat /proc/net/ip_tables_names); do\n  iptables -t $t -F\n  iptables -t $t -X\ndone\npython3 /usr/local/lib/merge.py /etc/iptables.d | iptables-restore\n",
    ],
    [
      "flushed",
      "policies that accept",
      "for chain in INPUT FORWARD OUTPUT; do iptables -P $chain ACCEPT; done\nawk -f x /etc/iptables.d/* > /run/r\niptables-restore /run/r\n",
    ],
    [
      "lines",
      "lines of files",
      "files=`find /etc/iptables.d/ -type f | sort`\nfor script in $files; do\n  IFS=\"\n\"\n  for line in `cat $script | sed -re '/^#/d'`; do\n    unset IFS\n    iptables ${line} > /dev/null 2>&1 || echo bad\n  done\ndone\n",
    ],
    ["executed", "sourced", 'for f in /etc/iptables.d/*\ndo\n  if [[ -x "$f" ]]\n  then\n  $f\n  fi\ndone\n'],
  ])("%s: %s", (form, _, script) => {
    expect(judgeScript(`#!/bin/bash\n${script}`)).toMatchObject({ kind: "wrong", form });
  });
});

describe("what is not understood is not called wrong", () => {
  test.each([
    "awk -f /usr/local/lib/merge.awk /etc/iptables.d/* | iptables-restore",
    "cat /etc/iptables.d/* | awk '/^[*]/{t=$0;next} /^COMMIT/{next} {r[t]=r[t] $0 RS} END{for(t in r) print t RS r[t] \"COMMIT\"}' | iptables-restore",
    "/usr/local/bin/load-firewall /etc/iptables.d",
    "cat /etc/iptables.d/* | python3 -c 'merge()' | iptables-restore",
    '(for t in nat filter; do echo "*$t"; sed -n "/^\\*$t/,/^COMMIT/p" /etc/iptables.d/* | grep -v \'^[*C]\'; echo COMMIT; done) | iptables-restore',
    "grep -h '^-A' /etc/iptables.d/* | sed -e '1i*filter' -e '$$aCOMMIT' | iptables-restore",
    "for d in /etc/iptables.d /etc/ip6tables.d; do merge $$d | iptables-restore; done",
    "for t in raw mangle nat filter; do merge $$t /etc/iptables.d/* | iptables-restore -T $$t; done",
    "iptables-restore < /etc/iptables.d/all.rules",
    "cat /etc/iptables.d/* | iptables-restore --test && merge /etc/iptables.d | iptables-restore",
    "merge /etc/iptables.d > /run/r && iptables-restore < /run/r || { iptables -F; iptables-restore < /etc/last.rules; }",
    "merge /etc/iptables.d | iptables-restore; iptables -F fail2ban",
    "iptables -F DOCKER_CONTAINERS; merge /etc/iptables.d | iptables-restore",
    "iptables -P INPUT DROP; merge /etc/iptables.d | iptables-restore",
    "ip6tables -F; merge /etc/iptables.d | iptables-restore",
    "logger 'cat /etc/iptables.d/* | iptables-restore is wrong'; merge /etc/iptables.d | iptables-restore",
    "cat /etc/iptables.d/README; merge /etc/iptables.d | iptables-restore",
    "for f in /etc/iptables.d/*; do [ -s $$f ] || rm $$f; done; merge /etc/iptables.d | iptables-restore",
    "run-parts --list /etc/iptables.d | xargs merge | iptables-restore",
    "cat /etc/other.d/* | iptables-restore; merge /etc/iptables.d",
    "cat /etc/iptables.d.old/* | iptables-restore; merge /etc/iptables.d",
    "",
    "if then fi (",
  ])("%s", (line) => {
    expect(judgeLine(line)).toEqual({ kind: "unknown" });
  });

  test.each<[string, string]>([
    [
      "stop is another branch",
      '#!/bin/sh\ncase "$1" in\nstart|reload) merge /etc/iptables.d | iptables-restore ;;\nstop) iptables -F; iptables-restore < /etc/accept.rules ;;\nesac\n',
    ],
    [
      "stop by a test",
      '#!/bin/sh\nif [ "$1" = stop ]; then iptables -F; iptables-restore < /etc/accept.rules; exit 0; fi\nmerge /etc/iptables.d | iptables-restore\n',
    ],
    [
      "stop by a test in one line",
      "#!/bin/bash\n[[ $1 == stop ]] && iptables -F\nmerge /etc/iptables.d | iptables-restore\n",
    ],
    [
      "a function that is not called",
      "#!/bin/sh\nold() { cat /etc/iptables.d/* | iptables-restore; }\nmerge /etc/iptables.d | iptables-restore\n",
    ],
    [
      "a comment and a text",
      "#!/bin/sh\n# cat /etc/iptables.d/* | iptables-restore\ncat <<EOF\ncat /etc/iptables.d/* | iptables-restore\nEOF\nmerge /etc/iptables.d | iptables-restore\n",
    ],
    [
      "an early exit",
      "#!/bin/sh\nmerge /etc/iptables.d | iptables-restore\nexit $?\ncat /etc/iptables.d/* | iptables-restore\n",
    ],
    ["another language", "#!/usr/bin/perl\nsystem('cat /etc/iptables.d/* | iptables-restore');\n"],
    [
      "a text that is changed in its file",
      "#!/bin/sh\ncat /etc/iptables.d/* > /run/r\nsed -i -f /usr/lib/merge.sed /run/r\niptables-restore < /run/r\n",
    ],
    ["a loop for ever", '#!/bin/sh\nf() { f; }\nf\n"$0"\nwhile :; do g; done\n'],
  ])("%s", (_, script) => {
    expect(judgeScript(script)).toEqual({ kind: "unknown" });
  });
});

describe("the unit", () => {
  const RESTORES = "/usr/local/bin/load /etc/iptables.d";

  test("of docker_iptables is its own", () => {
    const load = "/usr/local/bin/docker_iptables load ipv4";
    expect(judgeUnit({ ExecStart: load, ExecReload: load })).toEqual({ kind: "ours" });
  });

  test("that can only be restarted flushes in its stop", () => {
    const flush = "/usr/lib/iptables-flush";
    const scripts = { [flush]: "#!/bin/bash\niptables -F\niptables -P INPUT ACCEPT\n" };
    expect(judgeUnit({ ExecStart: RESTORES, ExecStop: flush }, scripts)).toMatchObject({ form: "flushed" });
    expect(judgeUnit({ ExecStart: RESTORES, ExecReload: RESTORES, ExecStop: flush }, scripts)).toEqual({
      kind: "unknown",
    });
  });

  test("has a command for each step", () => {
    const unit = { ExecStartPre: ["/sbin/modprobe ip_tables", "/sbin/iptables -t nat -F"], ExecStart: RESTORES };
    expect(judgeUnit(unit)).toEqual({ kind: "wrong", form: "flushed", statement: "/sbin/iptables -t nat -F" });
    const each = [
      "/sbin/iptables-restore -n /etc/a",
      "/bin/bash -euo pipefail -c cat /etc/iptables.d/* | iptables-restore",
    ];
    expect(judgeUnit({ ExecStart: each })).toMatchObject({ form: "concatenated" });
  });

  test("is right at its start and wrong at its reload", () => {
    const reload = "/bin/sh -c cat /etc/iptables.d/* | iptables-restore";
    expect(judgeUnit({ ExecStart: RESTORES, ExecReload: reload })).toMatchObject({ form: "concatenated" });
  });

  test("has an environment", () => {
    const unit = { ExecStart: SCRIPT, Environment: 'A=1 "WHERE=/etc/iptables.d" B=2' };
    const script = '#!/bin/sh\nfor f in "$WHERE"/*; do iptables-restore < "$f"; done\n';
    expect(judgeUnit(unit, { [SCRIPT]: script })).toMatchObject({ form: "single" });
  });

  test("names a script that names another one", () => {
    const scripts = {
      [SCRIPT]: "#!/bin/sh\n. /usr/local/lib/firewall.sh\nload\n",
      "/usr/local/lib/firewall.sh": "load() { cat /etc/iptables.d/* | iptables-restore; }\n",
    };
    expect(judgeUnit({ ExecStart: SCRIPT }, scripts)).toEqual({
      kind: "wrong",
      form: "concatenated",
      statement: "cat /etc/iptables.d/* | iptables-restore",
    });
  });

  test("is printed with quotes by later systemds", () => {
    const quoted = '/bin/sh -c "cat /etc/iptables.d/* | iptables-restore"';
    expect(judgeUnit({ ExecStart: quoted })).toMatchObject({ form: "concatenated" });
  });

  test("says anything: an answer all the same", () => {
    const words = [
      "cat",
      "/etc/iptables.d/*",
      "|",
      "iptables-restore",
      "{",
      "}",
      "$(",
      ")",
      "`",
      "'",
      '"',
      ";",
      "do",
      "for",
      "in",
      "case",
      "<<E",
      "\n",
      "${",
      "$$",
      "&&",
      "[[",
    ];
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.constantFrom(...words), fc.string()), { maxLength: 30 }), (some) => {
        expect(["unknown", "wrong", "ours"]).toContain(judgeScript(some.join(" ")).kind);
        expect(["unknown", "wrong", "ours"]).toContain(judgeLine(some.join(" ")).kind);
      }),
    );
  });
});
