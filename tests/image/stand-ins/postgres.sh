#!/bin/sh
# Stands in for the published image of PostgreSQL: as there, a new database is made by a server that only a socket reaches.
set -eu
export PGDATA=/var/lib/postgresql/data PATH=/usr/sbin:/usr/bin:/sbin:/bin
PATH=$(dirname /usr/lib/postgresql/*/bin/postgres):$PATH
if [ "$(id -u)" = 0 ]; then
    install --directory --owner=postgres --mode=0700 "$PGDATA"
    install --directory --owner=postgres /run/postgresql
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    printf '%s\n' "$POSTGRES_PASSWORD" > /tmp/password
    initdb --encoding=UTF8 --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
    pg_ctl start --wait --options="-c listen_addresses=''"
    createdb --username="$POSTGRES_USER" "$POSTGRES_DB" 2>/dev/null || true
    # Long enough for whoever takes this server for the one that stays.
    sleep 5
    pg_ctl stop --wait --mode=fast
fi
exec postgres -c listen_addresses='*'
