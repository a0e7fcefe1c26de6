#!/usr/bin/env bash
# Installs a pinned cvc5 from its Python package into a virtual environment, and writes a program to the path given that
# speaks SMT-LIB on standard input and output, as the cvc5 binary does. The package holds the solver as a library only.
set -euo pipefail

version=${1:?"usage: install-cvc5.sh VERSION PATH-OF-THE-PROGRAM"}
program=${2:?"usage: install-cvc5.sh VERSION PATH-OF-THE-PROGRAM"}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$(dirname "$program")"
tools=$(cd "$(dirname "$program")" && pwd)
program=$tools/$(basename "$program")
venv=$tools/cvc5-venv

echo "installing cvc5 $version into $venv (about 15 MB)" >&2
python3 -m venv "$venv" || {
  echo "error: python3 with its venv module is needed (on Debian: apt-get install python3-venv)" >&2
  exit 1
}
"$venv/bin/pip" install --quiet --disable-pip-version-check "cvc5==$version" || {
  echo "error: the package cvc5 $version cannot be installed" >&2
  exit 1
}
cp "$here/cvc5-repl.py" "$program.py"

started=$(mktemp "$tools/cvc5.XXXXXX")
cat > "$started" <<END
#!/bin/sh
exec "$venv/bin/python" "$program.py" "\$@"
END
chmod 755 "$started"
answer=$(printf '(set-logic ALL)\n(assert false)\n(check-sat)\n' | "$started" --lang=smt2)
if [ "$answer" != unsat ]; then
  echo "error: cvc5 $version does not work here: it answers '$answer' where 'unsat' is right" >&2
  rm -f "$started"
  exit 1
fi
mv "$started" "$program"
