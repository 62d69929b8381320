#!/bin/sh
# Installs three linters below target/ and lets them read the API description in both versions: nothing is to be said.
set -eu
cd "$(dirname "$0")/../.."
lint=target/openapi-lint
mkdir -p $lint
[ -x $lint/venv/bin/python ] || python3 -m venv $lint/venv
$lint/venv/bin/python -m pip install --quiet --disable-pip-version-check openapi-spec-validator==0.9.0
npm install --silent --no-save --prefix $lint @stoplight/spectral-cli@6.16.3 @redocly/cli@2.77.0

$lint/venv/bin/openapi-spec-validator openapi/openapi.json openapi/openapi-3.0.json
$lint/node_modules/.bin/spectral lint --fail-severity hint --ruleset openapi/spectral.yaml \
    openapi/openapi.json openapi/openapi-3.0.json
REDOCLY_TELEMETRY=off $lint/node_modules/.bin/redocly lint --config openapi/redocly.yaml newer older
