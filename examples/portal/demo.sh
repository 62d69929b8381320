#!/bin/sh
# Runs the service and the example portal on this machine, until Ctrl-C: `make run`. Without a portal it leaves the
# portal's place to one of your own: `make run-service`.
#
# usage: demo.sh SERVICE [PORTAL]      (the binaries)
# DEMO_PORT and DEMO_PORTAL_PORT choose other ports than 8080 and 8081.
# Everything is kept in data/ of the current directory; remove that folder to start afresh.
set -eu
umask 077

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: $0 SERVICE [PORTAL]" >&2
    exit 2
fi
service=$1
portal=${2:-}
port=${DEMO_PORT:-8080}
portal_port=${DEMO_PORTAL_PORT:-8081}
service_url=http://127.0.0.1:$port
portal_url=http://127.0.0.1:$portal_port

export MAGIC_LINK_LISTEN="127.0.0.1:$port"
export MAGIC_LINK_PUBLIC_URL="$service_url"
export MAGIC_LINK_DATABASE_URL=sqlite://data/magic-link.db
export MAGIC_LINK_MAIL__PROVIDER=preview
export MAGIC_LINK_PORTALS__CLOUD__CALLBACK_URL="$portal_url/{tenant_id}/cloud/callback"
export MAGIC_LINK_PORTALS__CLOUD__AUDIENCE="$portal_url/cloud"
export MAGIC_LINK_PORTALS__ESS__CALLBACK_URL="$portal_url/{tenant_id}/ess/callback"
export MAGIC_LINK_PORTALS__ESS__AUDIENCE="$portal_url/ess"

service_pid=
portal_pid=

# Ends both and waits for them, whatever the reason for the end.
end() {
    trap '' INT TERM HUP
    rm -f data/ready
    for pid in $portal_pid $service_pid; do
        kill "$pid" 2>/dev/null || :
    done
    wait
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

fail() {
    echo "$1" >&2
    [ ! -s "$2" ] || cat "$2" >&2
    exit 1
}

# The value of a text field in one JSON object.
field() {
    sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p'
}

portal_client() {
    "$service" client create --json --name "Example portal ($1)" --portal "$1" --tenant acme --tenant globex \
        --scope links:issue --scope links:approve --scope links:read --scope links:revoke --scope sessions:redeem \
        --scope sessions:introspect --scope audit:write --scope audit:read --scope consultants:read | field key
}

mkdir -p data

# Keys are shown once, so they are kept for the next run. Without its database a key is worth nothing.
if [ ! -f data/demo.env ] || [ ! -f data/magic-link.db ]; then
    seeded=$("$service" demo --json)
    consultant=$(echo "$seeded" | field id)
    admin_key=$(echo "$seeded" | field key)
    cloud_key=$(portal_client cloud)
    ess_key=$(portal_client ess)
    if [ -z "$consultant" ] || [ -z "$admin_key" ] || [ -z "$cloud_key" ] || [ -z "$ess_key" ]; then
        echo "The demo data could not be made; see above." >&2
        exit 1
    fi
    cat > data/demo.env.new <<END
CONSULTANT=$consultant
ADMIN_KEY=$admin_key
CLOUD_KEY=$cloud_key
ESS_KEY=$ess_key
END
    mv data/demo.env.new data/demo.env
fi
. ./data/demo.env

# Each of them says on one line that it listens, or ends without a word and leaves its reason in the log.
rm -f data/ready
mkfifo data/ready
"$service" serve > data/ready 2> data/service.log &
service_pid=$!
read -r _ < data/ready ||
    fail "The service did not start. If port $port is taken, choose another: DEMO_PORT=9080 make run" data/service.log

place=" (the place of yours)"
grant=Issue
if [ -n "$portal" ]; then
    place=
    grant="Grant access on the portal's page, or issue"
    rm data/ready
    mkfifo data/ready
    PORTAL_LISTEN="127.0.0.1:$portal_port" PORTAL_PUBLIC_URL="$portal_url" PORTAL_SERVICE_URL="$service_url" \
        PORTAL_CLOUD_KEY="$CLOUD_KEY" PORTAL_ESS_KEY="$ESS_KEY" PORTAL_CONSULTANT_ID="$CONSULTANT" \
        "$portal" > data/ready 2> data/portal.log &
    portal_pid=$!
    read -r _ < data/ready ||
        fail "The example portal did not start. If port $portal_port is taken, choose another: DEMO_PORTAL_PORT=9081 make run" data/portal.log
fi

cat <<END

  Swagger   $service_url/docs/
  Mailbox   $service_url/dev/mailbox
  Portal    $portal_url/$place

  Swagger's examples run with ADMIN_KEY of data/demo.env, which may do everything. The keys of the portal's two clients
  are there, too; the logs are data/*.log.
  $grant a first link from another terminal:

(. "$PWD/data/demo.env"; curl $service_url/v1/magic-links -H "Authorization: Bearer \$CLOUD_KEY" -H 'Content-Type: application/json' -d '{"tenant_id": "acme", "portal": "cloud", "consultant_id": "'\$CONSULTANT'", "reason": "Payroll run for November stops at step 3", "duration": {"value": 4, "unit": "hours"}, "profile": {"id": "emp-1042", "name": "Asha Rao"}, "issued_by": {"id": "emp-7", "name": "Meera Iyer"}, "replace": true}')

  Then open the mailbox. Ctrl-C ends everything.

END

while kill -0 "$service_pid" 2>/dev/null; do
    [ -z "$portal_pid" ] || kill -0 "$portal_pid" 2>/dev/null || fail "The example portal has stopped." data/portal.log
    sleep 1
done
echo "The service has stopped; the end of its log:" >&2
tail -n 5 data/service.log >&2
exit 1
