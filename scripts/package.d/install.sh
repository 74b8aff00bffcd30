#!/bin/sh
# Installs the files of this archive: install.sh [FOLDER]. FOLDER is / by default. Files in etc/ that exist already stay
# as they are; the new version is written beside them with the suffix .new.
set -eu
umask 022
cd "$(dirname "$0")"
target=${1:-/}

sha256sum --quiet --check SHA256SUMS || {
    echo "error: the archive is damaged. Unpack it again." >&2
    exit 1
}
find etc usr -type d -exec install -d "$target"/{} \;
find etc usr -type f | while read -r file; do
    mode=$(stat -c %a "$file")
    new=$target/$file
    case $file in
        etc/*) if [ -e "$new" ] && ! cmp -s "$file" "$new"; then new=$new.new; fi ;;
    esac
    # A rename, so that a host that runs keeps its files.
    install -m "$mode" "$file" "$new.tmp.$$"
    mv -f "$new.tmp.$$" "$new"
done
echo "Installed. The next steps, as root:"
echo "  systemd-sysusers && systemd-tmpfiles --create chanserv.conf"
echo "  systemctl daemon-reload && systemctl enable --now chanserv"
