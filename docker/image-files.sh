#!/bin/sh
# image-files.sh BINARY FOLDER: puts everything that the image holds into FOLDER, on Debian and as root.
set -eu
binary=$1 root=$2
install -D --strip --mode=0755 "$binary" "$root/usr/bin/magic-link"
# What it is linked with, from where Debian has it.
libraries=$(ldd "$binary" | grep --only-matching '/[^ ]*')
for library in $libraries; do
    install -D --mode=0755 "$library" "$root$library"
done
install -D --mode=0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
# For scanners: which packages of Debian these files come from.
install -D --mode=0644 /etc/os-release "$root/etc/os-release"
install --directory "$root/var/lib/dpkg/status.d"
for package in libc6 libgcc-s1 ca-certificates; do
    dpkg-query --status "$package" > "$root/var/lib/dpkg/status.d/$package"
done
install -D --mode=0644 --target-directory="$root/usr/share/doc/magic-link" LICENSE-APACHE LICENSE-MIT
# Names are looked up in /etc/hosts first.
printf 'hosts: files dns\n' > "$root/etc/nsswitch.conf"
printf 'root:x:0:0::/:/usr/sbin/nologin\nmagic-link:x:10001:0::/var/lib/magic-link:/usr/sbin/nologin\n' > "$root/etc/passwd"
printf 'root:x:0:\n' > "$root/etc/group"
install --directory --mode=1777 "$root/tmp"
install --directory --owner=10001 --group=0 --mode=0770 "$root/var/lib/magic-link"
