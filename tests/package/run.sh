#!/bin/sh
# Makes the Debian package, installs it in a folder, runs it there under systemd, and keeps the result in RESULT.md.
#
# Needs root, cargo-deb, cargo-auditable, lintian, python3, mmdebstrap, podman, runc and systemd-analyze, on Debian. BINARY names a program that
# was built already (`make image-build`). All of it lies below target/package-test.
set -eu
cd "$(dirname "$0")/../.."
work=$PWD/target/package-test
root=$work/root
mkdir -p "$work"
where="--root $work/storage --runroot $work/run --storage-driver vfs"

said=""
say() { echo "$1"; said="$said- $1
"; }
fail() { echo "FAILED: $1" >&2; exit 1; }
collector=""
trap 'podman $where rm --force --all --time 5 >/dev/null 2>&1 || true; [ -z "$collector" ] || kill "$collector" 2>/dev/null || true' EXIT

target=${CARGO_TARGET_DIR:-target}
rm -rf "$target/debian"
if [ -n "${BINARY:-}" ]; then
    install -D "$BINARY" "$target/release/magic-link"
    make package-files
else
    make package
fi
package=$(ls "$target"/debian/*.deb)
symbols=$(ls "$target"/debian/*.ddeb)
mib() { stat --format=%s "$1" | awk '{ printf "%.1f MiB", $1 / 1048576 }'; }
installed=$(dpkg-deb --field "$package" Installed-Size | awk '{ printf "%.1f MiB", $1 / 1024 }')
say "\`$(basename "$package")\`: $(mib "$package"), $installed installed; names of functions: \`$(basename "$symbols")\`, $(mib "$symbols"). Depends on $(dpkg-deb --field "$package" Depends)."

lintian --fail-on error --tag-display-limit 0 "$package" > "$work/lintian" || { cat "$work/lintian"; fail lintian; }
say "lintian: $(grep -c '^E' "$work/lintian") errors, $(grep -c '^W' "$work/lintian") warnings$(sed -n 's/^W: magic-link: \([a-z-]*\).*/ \1/p' "$work/lintian" | sort | uniq -c | awk '{ printf "%s%s (%s)", NR == 1 ? ": " : ", ", $2, $1 }')."

[ -s "$work/root.tar" ] || mmdebstrap --quiet --variant=minbase \
    --include=systemd,systemd-sysv,dbus,ca-certificates,man-db,bash-completion,procps bookworm "$work/root.tar"
rm -rf "$root"
mkdir "$root"
tar --extract --directory "$root" --file "$work/root.tar"
cp "$package" "$root/tmp/magic-link.deb"
# What no package may start in a folder.
printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"
chroot "$root" dpkg --install /tmp/magic-link.deb >/dev/null
exposure=$(systemd-analyze security --offline=true --root="$root" --threshold=25 --no-pager magic-link.service) \
    || fail "the unit is more exposed than 2.5"
say "systemd-analyze: $(echo "$exposure" | grep -o 'exposure level.*: [0-9.]*')."
systemd-analyze verify --root="$root" --man=no magic-link.service
[ "$(chroot "$root" stat --format='%U %a' /etc/magic-link/master.key)" = "magic-link 400" ] \
    || fail "the master key is not its user's own"
chroot "$root" bash -c 'man --warnings magic-link-client-create >/dev/null' || fail "the manual page"
chroot "$root" bash <<'SCRIPT' || fail "the completion of bash"
. /usr/share/bash-completion/completions/magic-link
function=$(complete -p magic-link | sed 's/.* -F \([^ ]*\) .*/\1/')
COMP_WORDS=(magic-link he) COMP_CWORD=1
"$function" magic-link he magic-link
[[ " ${COMPREPLY[*]} " = *" healthcheck "* ]]
SCRIPT

rm "$root/usr/sbin/policy-rc.d"
# Privileged, so that the unit's own sandbox can be made; the kernel's settings are not the test's to change.
for unit in systemd-sysctl systemd-modules-load systemd-timesyncd; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit.service"
done
podman $where --runtime runc run --detach --name machine --systemd=always --privileged --network none \
    --ulimit nofile=16384:16384 --ulimit nproc=4096:4096 --rootfs "$root" /sbin/init >/dev/null
inside() { podman $where exec machine "$@"; }
for _ in $(seq 60); do inside systemctl is-system-running --quiet 2>/dev/null && break; sleep 0.5; done
inside systemctl is-enabled --quiet magic-link && fail "it is enabled before it is configured"
# A collector of spans in the machine's own network.
rm -f "$work/spans"
nsenter --net="/proc/$(podman $where inspect --format '{{.State.Pid}}' machine)/ns/net" \
    python3 tests/image/collector.py 4318 "$work/spans" 2>"$work/collector" &
collector=$!
printf '\n[traces]\nendpoint = "http://127.0.0.1:4318"\n' >> "$root/etc/magic-link/magic-link.toml"
inside systemctl start magic-link || { inside journalctl --no-pager --unit magic-link; fail "it does not start"; }
inside magic-link --config /etc/magic-link/magic-link.toml healthcheck --ready >/dev/null || fail "it said that it is ready"
inside runuser -u magic-link -- magic-link --config /etc/magic-link/magic-link.toml client list >/dev/null
inside systemctl reload magic-link
pid=$(inside systemctl show magic-link --property MainPID --value)
inside bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080; printf "GET /v1/magic-links HTTP/1.0\r\n\r\n" >&3; grep -q "^HTTP.* 401" <&3' || fail "it answers"
for _ in $(seq 60); do [ -s "$work/spans" ] && break; sleep 0.5; done
[ -s "$work/spans" ] || fail "no spans came to a collector"
status=$(inside cat "/proc/$pid/status")
echo "$status" | grep -q 'CapBnd:	0000000000000000' || fail "it has capabilities"
echo "$status" | grep -q 'Seccomp:	2' || fail "no system call is filtered"
inside systemctl stop magic-link
[ "$(inside systemctl show magic-link --property Result --value)" = success ] || fail "it did not stop in order"
say "Under $(inside systemctl --version | head -1 | cut -d' ' -f1,2) (in podman, without a network): started after READY=1, ready, reloaded, stopped in order; no capabilities, system calls filtered, command line as its user; spans came to a collector (OTLP over HTTP)."
inside dpkg --purge magic-link >/dev/null
inside test -s /var/lib/magic-link/magic-link.db || fail "the database went with the package"
inside test -s /etc/magic-link/master.key || fail "the master key went with the package"
say "Purged: the database and the master key stay."

{
    printf '# The Debian package, as `make package-test` saw it last\n\nOn %s, with %s.\n\n' \
        "$(date --utc +%F)" "$(lintian --version | head -1)"
    printf '%s' "$said"
} > tests/package/RESULT.md
