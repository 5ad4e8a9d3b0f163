#!/bin/sh
# sweep.sh RUN: a run of tests is over. Ends what it has started and left behind, and removes its folder RUN, and the one to
# which RUN/.also leads. A process is the run's if its environment names RUN: a test's PATH and TMPDIR are in there.
tries=100
while
  left=$(grep -lsF -e "$1" /proc/[0-9]*/environ | sed 's|^/proc/||; s|/.*||')
  [ -n "$left" ] && [ $((tries -= 1)) -gt 0 ]
do
  kill -KILL $left 2> /dev/null
  sleep 0.1
done
chmod -R u+rwX "$1" 2> /dev/null
[ ! -d "$1/.also/" ] || rm -rf -- "$(readlink "$1/.also")"
rm -rf -- "$1"
