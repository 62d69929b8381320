#!/bin/sh
# Installs the libraries below target/ and lets them verify what the service signs.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p target/interop
[ -x target/interop/venv/bin/python ] || python3 -m venv target/interop/venv
target/interop/venv/bin/python -m pip install --quiet --disable-pip-version-check standardwebhooks 'pyjwt[crypto]'
npm install --silent --no-save --prefix target/interop standardwebhooks jose
exec "${CARGO:-cargo}" test --locked --test api -- --ignored interop
