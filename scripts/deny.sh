#!/usr/bin/env bash
# Checks the dependencies' licences, sources and bans; and advisories, where their database can be reached.
set -euo pipefail

deny=${1:?"usage: deny.sh PATH-OF-CARGO-DENY"}
"$deny" --all-features check licenses sources bans

if "$deny" fetch db >/dev/null 2>&1; then
  "$deny" check advisories
else
  echo "advisories: NOT CHECKED, the advisory database cannot be reached from here" >&2
fi
