#!/usr/bin/env bash
# Lays the agent and what it needs, as locked, into PREFIX below STAGE: site-packages, byte-compiled,
# and bin/farmhand-agent. The interpreter is the caller's to add.
#
# usage: lay-agent.sh BUILD_PYTHON STAGE PREFIX
# BUILD_PYTHON has pip and hatchling; python3.11 on the path compiles.
set -euo pipefail
build_python=$1 stage=$2 prefix=$3
root=$(cd "$(dirname "$0")/.." && pwd)
site=$stage$prefix/lib/python3.11/site-packages

command -v python3.11 >/dev/null || {
  echo "packaging: python3.11 is missing: it compiles what a node with Python 3.11 loads" >&2
  exit 1
}
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT

# What the nodes run, whatever this machine is; glibc 2.17 and newer.
target=(--only-binary :all: --python-version 3.11 --implementation cp)
for tag in manylinux_2_17 manylinux2014 manylinux_2_12 manylinux2010 manylinux_2_5 manylinux1; do
  target+=(--platform "${tag}_x86_64")
done
pip() { "$build_python" -m pip --quiet --disable-pip-version-check "$@"; }

pip wheel --no-deps --no-build-isolation --wheel-dir "$wheels" "$root"
mkdir -p "$site"
pip install --target "$site" "${target[@]}" --no-deps --no-compile --require-hashes \
  -r "$root/requirements-agent.lock"
pip install --target "$site" --no-deps --no-compile --no-index --find-links "$wheels" farmhand

# A node has neither collector nor terminal, and pip is not asked again.
rm -rf "${site:?}"/{farmhand_collector,farmhand_tui,bin}
rm -f "$site"/*.dist-info/{RECORD,INSTALLER,REQUESTED,direct_url.json}
find "$site" -type d -name __pycache__ -prune -exec rm -rf {} +
find "$site" -type f -exec chmod 0644 {} +

python3.11 -m compileall -q -j 2 --invalidation-mode unchecked-hash -s "$stage" -p / "$site"

mkdir -p "$stage$prefix/bin"
cat > "$stage$prefix/bin/farmhand-agent" <<END
#!$prefix/bin/python3 -I
"""The command \`farmhand-agent\`."""

import sys

from farmhand_agent.cli import main

sys.exit(main())
END
chmod 0755 "$stage$prefix/bin/farmhand-agent"
