#!/usr/bin/env bash
# Installs the OpenID provider of the tests, with everything it needs, from its lock file into the folder given.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:?"usage: install-provider.sh FOLDER"}
command -v npm >/dev/null || {
  echo "error: node 20 or newer with npm is needed for the tests' identity provider (on Debian: apt-get install nodejs npm)" >&2
  exit 1
}
mkdir -p "$folder"
cp tests/provider/{package.json,package-lock.json,provider.mjs} "$folder/"
echo "installing the tests' identity provider into $folder" >&2
npm ci --prefix "$folder" --no-audit --no-fund --ignore-scripts --loglevel=error >&2
