#!/usr/bin/env bash
# Finds a Redis or Valkey server for the tests, installs Debian's where there is none, and links it to the path given.
set -euo pipefail

link=${1:?"usage: install-redis.sh PATH-OF-THE-LINK"}

found() { command -v valkey-server || command -v redis-server; }

if ! found >/dev/null; then
  if ! command -v apt-get >/dev/null; then
    echo "error: the tests of shared state need redis-server or valkey-server: install one of them" >&2
    exit 1
  fi
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  echo "installing redis-server" >&2
  # Lists that cannot be had anew may do as they are: the installation says.
  "${as_root[@]}" apt-get update -qq || true
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server >/dev/null
fi
binary=$(found)
"$binary" --version >&2
mkdir -p "$(dirname "$link")"
ln -sfn "$binary" "$link"
