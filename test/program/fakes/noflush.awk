# iptables-restore --noflush on the fake kernel: -N, -F, -X, -D by spelling, -A, and -I with a number; each table in one step.
function fail(why) { print "iptables-restore: line " NR " failed: " why > "/dev/stderr"; failed = 1; exit 1 }
function insert(at, text,   i) { for (i = n; i >= at; i--) line[i + 1] = line[i]; line[at] = text; n++ }
function rest(words,   text) { text = $0; while (words-- > 0) sub(/^[^ ]+ /, "", text); return text }
/broken/ { fail("broken") }
/^\*/ {
  file = dir "/" substr($0, 2); n = 0
  while ((getline text < file) > 0) if (text !~ /^\*|^COMMIT/) line[++n] = text
  close(file); table = $0; next
}
/^COMMIT/ {
  print table > file
  for (i = 1; i <= n; i++) print line[i] > file
  print "COMMIT" > file; close(file); next
}
/^-N / { for (i = 1; i <= n; i++) if (index(line[i], ":" $2 " ") == 1) fail("exists"); insert(1, ":" $2 " - [0:0]"); next }
/^-X / {
  for (i = 1; i <= n && index(line[i], ":" $2 " ") != 1; i++) if (index(line[i], "-A " $2 " ") == 1) fail("in use")
  if (i > n) fail("no such chain")
  for (; i < n; i++) line[i] = line[i + 1]
  n--; next
}
/^-F / {
  kept = 0
  for (i = 1; i <= n; i++) if (index(line[i], "-A " $2 " ") != 1) line[++kept] = line[i]
  n = kept; next
}
/^-A / { line[++n] = $0; next }
/^-D / {
  wanted = "-A " rest(1)
  for (i = 1; i <= n && line[i] != wanted; i++);
  if (i > n) fail("no such rule")
  for (; i < n; i++) line[i] = line[i + 1]
  n--; next
}
/^-I / {
  left = $3
  for (i = 1; i <= n; i++) if (index(line[i], "-A " $2 " ") == 1 && --left == 0) break
  if (left > 1) fail("too far")
  insert(i, "-A " $2 " " rest(3)); next
}
{ fail("not for --noflush") }
