# iptables-restore on the fake kernel: each table that stdin names is replaced, one after the other, by its chains and rules; -I
# puts a rule in front. A line with "broken" is refused, as a bad rule would be; one with "shaky" only by the kernel itself (not
# in a trial), as are sets called "nosuch". Counters are not kept.
function fail(why) { print "iptables-restore: line " NR " failed" > "/dev/stderr"; failed = 1; exit 1 }
function rest(words,   text) { text = $0; while (words-- > 0) sub(/^[^ ]+ /, "", text); return text }
/broken/ { fail() }
/shaky|nosuch/ { if (!trial) fail() }
/^\*/ { table = substr($0, 2); n = 0; next }
/^COMMIT/ {
  file = dir "/" table
  printf "*%s\n", table > file
  for (i = 1; i <= n; i++) print line[i] > file
  print "COMMIT" > file
  close(file); next
}
/^$|^#/ { next }
{
  sub(/^\[[0-9]+:[0-9]+\] /, "")
  if ($1 == "-I") {
    number = $3 ~ /^[0-9]+$/ ? $3 : 1
    text = "-A " $2 " " rest($3 ~ /^[0-9]+$/ ? 3 : 2)
    for (i = 1; i <= n; i++) if (index(line[i], "-A " $2 " ") == 1 && --number == 0) break
    for (j = n; j >= i; j--) line[j + 1] = line[j]
    line[i] = text; n++
  } else line[++n] = $0
}
