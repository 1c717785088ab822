#!/bin/sh
# The store takes one more line, is whole then, and gives back the first lines that were appended, all
# that were acknowledged among them, and the new one. It is verified after the recovery that an append
# begins with: before that, `verify` also names what a crash left out of a write that nobody waited for.
set -eu
seawall=$1
store=$CRASHCHECK_DIR/store
acks=$(wc -l <"$CRASHCHECK_ACKS")
fail() {
  echo "$1" >&2
  exit 1
}
if [ "$acks" -eq 0 ] && ! "$seawall" status "$store" >/dev/null 2>&1; then
  # Its creation was cut short: "remove the directory and create it again", as the command says.
  rm -rf "$store"
  "$seawall" create "$store" --cluster 7 --node 1 --segment-bytes 65536 >/dev/null || fail "create ends with $?"
fi
echo "one more" | "$seawall" append "$store" --quiet >/dev/null 2>&1 || fail "append ends with $?"
"$seawall" verify "$store" >/dev/null 2>&1 || fail "verify ends with $?"
lines=$("$seawall" read "$store" 2>/dev/null) || fail "read ends with $?"
there=0
while [ "$there" -le 8 ]; do
  first=$(printf 'line %d a\nline %d b\n' 1 1 2 2 3 3 4 4 | head -n "$there")
  [ "$lines" = "${first:+$first
}one more" ] && break
  there=$((there + 1))
done
[ "$there" -le 8 ] || fail "the lines are not the first that were appended, and one more"
durable=$((acks > 1 ? 2 * (acks - 1) : 0))
[ "$there" -ge "$durable" ] || fail "$there lines are there, $durable were acknowledged"
