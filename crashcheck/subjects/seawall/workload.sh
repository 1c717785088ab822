#!/bin/sh
# seawall through its command: a store is created, and lines are appended by four runs of the command.
# `seawall append` ends with "durable through index N" when its last entry is durable.
set -eu
seawall=$1
store=$2/store
"$seawall" create "$store" --cluster 7 --node 1 --segment-bytes 65536 >&2
echo "durable-ack created"
for n in 1 2 3 4; do
  printf 'line %d a\nline %d b\n' "$n" "$n" | "$seawall" append "$store" --quiet >&2
  echo "durable-ack $n"
done
