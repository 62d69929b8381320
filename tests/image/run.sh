#!/bin/sh
# Builds docker/Dockerfile as it stands, runs the image as it is meant to be run, and keeps the result in RESULT.md.
#
# Needs root, buildah, podman, runc, PostgreSQL, openssl, python3 and what compose.py needs; mmdebstrap and a Rust toolchain where no registry of images can
# be reached: then the base image is made of Debian's packages and this machine's toolchain, and the result says so.
# All of it lies below target/image; the caches of a build stay there for the next one.
set -eu
cd "$(dirname "$0")/../.."
work=$PWD/target/image
image=localhost/magic-link
key=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=
postgres_bin=$(dirname "$(ls /usr/lib/postgresql/*/bin/initdb | tail -1)")
mkdir -p "$work"
: > "$work/log"
# buildah keeps the cache of `RUN --mount=type=cache` here.
export TMPDIR="$work"
where="--root $work/storage --runroot $work/run --storage-driver vfs"

said="" collector=""
say() { echo "$1"; said="$said- $1
"; }
fail() { echo "FAILED: $1" >&2; exit 1; }
cleanup() {
    podman $where rm --force --all --time 1 >/dev/null 2>&1 || true
    [ -z "$collector" ] || kill "$collector" 2>/dev/null || true
    [ -d "$work/database" ] && database stop >/dev/null 2>&1 || true
}
trap cleanup EXIT
eventually() { # what is awaited, command…
    what=$1; shift
    for _ in $(seq 120); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.5; done
    fail "$what"
}

# The base image of the Dockerfile, or its stand-in.
base=$(sed -n 's/^FROM \(.*\) AS build$/\1/p' docker/Dockerfile)
if timeout 60 buildah $where pull --quiet "docker.io/library/$base" >/dev/null 2>&1; then
    source="the published \`$base\`"
elif buildah $where inspect --type image "localhost/$base" >/dev/null 2>&1; then
    source="a stand-in of \`$base\` (Debian's packages and this machine's toolchain)"
else
    source="a stand-in of \`$base\` (Debian's packages and this machine's toolchain)"
    [ -s "$work/base.tar" ] || mmdebstrap --quiet --variant=minbase \
        --include=gcc,g++,libc6-dev,make,perl,ca-certificates "${base##*-}" "$work/base.tar"
    container=$(buildah $where from scratch)
    buildah $where add --quiet "$container" "$work/base.tar" / >/dev/null
    # Whatever this machine trusts, so that the registry of crates can be reached.
    buildah $where copy --quiet "$container" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ >/dev/null
    for part in bin lib; do
        buildah $where copy --quiet "$container" "$(rustc --print sysroot)/$part" "/usr/local/cargo/$part" >/dev/null
    done
    buildah $where config --env CARGO_HOME=/usr/local/cargo \
        --env PATH=/usr/local/cargo/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    buildah $where commit --quiet --rm "$container" "localhost/$base" >/dev/null
fi

began=$(date +%s)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
buildah $where bud --isolation chroot --pull-never --format docker --build-arg "REVISION=$revision" \
    --file docker/Dockerfile --ignorefile docker/Dockerfile.dockerignore --tag "$image" .
say "Built from $source in $(($(date +%s) - began)) s (with what the build before left in its caches)."

inspect() { podman $where image inspect --format "$1" "$image"; }
[ "$(inspect '{{index .Labels "org.opencontainers.image.version"}}')" = "$version" ] || fail "the version label is not $version"
[ "$(inspect '{{index .Labels "org.opencontainers.image.revision"}}')" = "$revision" ] || fail "the revision label"
[ "$(inspect '{{.User}}')" = 10001 ] || fail "the user"
mounted=$(podman $where image mount "$image")
[ -z "$(find "$mounted" -name sh -o -name bash -o -name curl -o -name apt)" ] || fail "a shell, curl or apt is in the image"
nm --dynamic "$mounted/usr/bin/magic-link" >/dev/null
[ -z "$(nm "$mounted/usr/bin/magic-link" 2>/dev/null)" ] || fail "the program is not stripped"
mib() { echo "$1" | awk '{ printf "%.1f MiB", $1 / 1048576 }'; }
say "The image has $(mib "$(inspect '{{.Size}}')"), $(find "$mounted" -type f | wc -l) files; compressed $(mib "$(tar --create --directory "$mounted" . | gzip | wc --bytes)"). The stripped program has $(mib "$(stat --format=%s "$mounted/usr/bin/magic-link")")."
objcopy --dump-section ".dep-v0=$work/dependencies" "$mounted/usr/bin/magic-link" /dev/null
dependencies=$(python3 -c 'import json, sys, zlib
packages = json.loads(zlib.decompress(open(sys.argv[1], "rb").read()))["packages"]
assert {"actix-web", "diesel", "jsonwebtoken", "openssl-src"} <= {package["name"] for package in packages}
print(len(packages))' "$work/dependencies")
say "The program says which $dependencies crates it was built from (\`cargo auditable\`)."
podman $where image unmount "$image" >/dev/null 2>>"$work/log"

# A PostgreSQL server that takes nobody without TLS.
database() { runuser -u postgres -- "$postgres_bin/pg_ctl" --pgdata="$work/database" --wait --silent "$@"; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
rm -rf "$work/database" "$work/keys"
install --directory --owner=postgres "$work/database"
chmod a+x "$work"
runuser -u postgres -- "$postgres_bin/initdb" --pgdata="$work/database" --auth=trust --encoding=UTF8 >/dev/null
runuser -u postgres -- openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 \
    -addext subjectAltName=IP:127.0.0.1 -keyout "$work/database/server.key" -out "$work/database/server.crt" 2>/dev/null
port=$(free_port)
printf "port = %s\nssl = on\nunix_socket_directories = ''\nlisten_addresses = '127.0.0.1'\n" "$port" \
    >> "$work/database/postgresql.conf"
echo 'hostssl all all 127.0.0.1/32 trust' > "$work/database/pg_hba.conf"
database --log="$work/database/log" start
install --directory --mode=0755 "$work/keys"
install --mode=0444 "$work/database/server.crt" "$work/keys/database.crt"
printf '%s\n' "$key" > "$work/keys/master.key"
chown 10001 "$work/keys/master.key" && chmod 0400 "$work/keys/master.key"

spans_to=127.0.0.1:$(free_port)
rm -f "$work/spans"
python3 tests/image/collector.py "${spans_to#*:}" "$work/spans" 2>>"$work/log" &
collector=$!

# The way it is meant to be run: read-only, without capabilities, the key in a file.
listen=127.0.0.1:$(free_port)
url="postgres://postgres@127.0.0.1:$port/postgres?sslmode=verify-full&sslrootcert=/keys/database.crt"
# Limits of its own, because not every machine may raise those of podman; its network, so that the database is near.
hardened="--network host --ulimit nofile=16384:16384 --ulimit nproc=4096:4096 --read-only --cap-drop all
    --security-opt no-new-privileges"
podman $where --runtime runc run --detach --name service $hardened --volume "$work/keys:/keys:ro" \
    --env "MAGIC_LINK_LISTEN=$listen" --env MAGIC_LINK_PUBLIC_URL=http://127.0.0.1:8080 \
    --env "MAGIC_LINK_DATABASE_URL=$url" --env MAGIC_LINK_MASTER_KEY_FILE=/keys/master.key \
    --env "MAGIC_LINK_TRACES__ENDPOINT=http://$spans_to" \
    --env MAGIC_LINK_MAIL__PROVIDER=mailpit "$image" >/dev/null 2>>"$work/log"
in_container() { podman $where exec service /usr/bin/magic-link "$@"; }
health() { podman $where healthcheck run service; }
# A small list for `eventually`, which takes commands.
is_ill() { ! health; }
is_not_ready() { ! in_container healthcheck --ready; }
eventually "the service is healthy" health
eventually "the service is ready" in_container healthcheck --ready
pid=$(podman $where inspect --format '{{.State.Pid}}' service)
status() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$pid/status"; }
[ "$(status Uid | cut -f1)" = 10001 ] || fail "it runs as $(status Uid)"
[ "$(status CapEff)" = 0000000000000000 ] && [ "$(status CapBnd)" = 0000000000000000 ] || fail "it has capabilities"
[ "$(status NoNewPrivs)" = 1 ] || fail "it may get new privileges"
grep -q ' / / ro[, ]\|^[^ ]* [^ ]* [^ ]* [^ ]* / ro[, ]' "/proc/$pid/mountinfo" || fail "its root is writable"
say "Ran as uid 10001, read-only, without capabilities and new privileges, over PostgreSQL with \`sslmode=verify-full\` and the master key in a file (mode 0400)."

python3 -c 'import http.client, sys; c = http.client.HTTPConnection(sys.argv[1]); c.request("GET", "/v1/magic-links"); c.getresponse()' "$listen"
eventually "spans come to a collector" test -s "$work/spans"
say "Spans came to a collector (OTLP over HTTP)."

database --mode=immediate stop
eventually "it is not ready without its database" is_not_ready
health || fail "an outage of the database is no reason to restart"
database --log="$work/database/log" start
eventually "it is ready again" in_container healthcheck --ready
say "Outage of the database: \`healthcheck\` 0, 0, 0; \`healthcheck --ready\` 0, 1, 0."
kill -STOP "$pid"
is_ill || fail "a frozen process is not healthy"
kill -CONT "$pid"
eventually "it is healthy again" health
say "Process frozen: \`healthcheck\` 0, 1, 0."
podman $where stop --time 35 service >/dev/null 2>>"$work/log"
[ "$(podman $where inspect --format '{{.State.ExitCode}}' service)" = 0 ] || fail "it did not stop in order"
say "SIGTERM: exit code 0."

# Any user, and the embedded database in a volume.
podman $where --runtime runc run --detach --name other $hardened --user 4711 --volume data:/var/lib/magic-link \
    --env "MAGIC_LINK_LISTEN=$listen" --env MAGIC_LINK_PUBLIC_URL=http://127.0.0.1:8080 \
    --env MAGIC_LINK_MAIL__PROVIDER=mailpit "$image" >/dev/null 2>>"$work/log"
eventually "it runs as any user" podman $where exec other /usr/bin/magic-link healthcheck --ready
podman $where stop --time 35 other >/dev/null 2>>"$work/log"
say "Ran as uid 4711 over SQLite in a volume."

podman $where rm --force --all --time 5 >/dev/null 2>>"$work/log"
composed=$(python3 tests/image/compose.py) || fail "compose.yaml"
echo "$composed"
said="$said$composed
"

{
    printf '# The image, as `make image-test` saw it last\n\n'
    printf 'On %s, with %s and %s (%s).\n\n' "$(date --utc +%F)" "$(buildah --version | cut -d' ' -f1-3)" \
        "$(podman --version)" "$(runc --version | head -1)"
    printf '%s' "$said"
} > tests/image/RESULT.md
