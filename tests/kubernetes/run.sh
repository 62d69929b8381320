#!/bin/sh
# Installs a validator below target/ and checks docker/kubernetes/ against the schemas that it brings.
set -eu
cd "$(dirname "$0")/../.."
place=target/kubernetes-check
mkdir -p $place
[ -x $place/venv/bin/python ] || python3 -m venv $place/venv
$place/venv/bin/python -m pip install --quiet --disable-pip-version-check kubernetes-validate==1.37.0
$place/venv/bin/kubernetes-validate --strict docker/kubernetes/*.yaml
