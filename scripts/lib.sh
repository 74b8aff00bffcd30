# Shared by the scripts beside it and .ci/run: finds the Swift toolchain and installs what the build needs beside it.
# Source it; it sets `root` (the repository's folder) and defines functions only.
# shellcheck shell=bash

# What is built must not be writable by others: the host refuses to load such plugins.
umask go-w

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# The oldest toolchain that builds this package.
readonly swift_needed=6.3

say() { printf '==> %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$1" >&2
    shift
    if (($# > 0)); then printf '       %s\n' "$@" >&2; fi
    exit 1
}

# Makes sure that `swift` can be called and is new enough.
need_swift() {
    # swiftly puts its folder into the PATH of login shells only.
    local swiftly=${SWIFTLY_BIN_DIR:-${SWIFTLY_HOME_DIR:-${HOME:-}/.local/share/swiftly}/bin}
    if ! command -v swift >/dev/null && [[ -x $swiftly/swift ]]; then PATH=$swiftly:$PATH; fi
    if ! command -v swift >/dev/null; then
        die "the Swift toolchain was not found: there is no 'swift' in PATH." \
            "Install Swift $swift_needed or later from https://www.swift.org/install/linux/ and open a new shell," \
            "or, where it is installed already: export PATH=/path/to/swift/usr/bin:\$PATH"
    fi
    local version
    version=$(swift --version 2>/dev/null | sed -nE 's/.*Swift version ([0-9]+\.[0-9]+).*/\1/p' | head -n 1) || true
    if [[ -z $version ]]; then
        die "'$(command -v swift) --version' does not work." \
            "Running it by hand shows why; a system library that the toolchain needs may be missing:" \
            "https://www.swift.org/install/linux/ lists them."
    fi
    if [[ $(printf '%s\n' "$swift_needed" "$version" | sort -V | head -n 1) != "$swift_needed" ]]; then
        die "Swift $version is too old: this package needs Swift $swift_needed or later." \
            "Get it from https://www.swift.org/install/linux/; $(command -v swift) is what was found."
    fi
}

# Makes sure of liblz4, libyaml, SQLite, pkg-config, git and a C compiler, installing the Debian packages of what is missing.
need_libraries() {
    local missing=()
    command -v git >/dev/null || missing+=(git ca-certificates)
    command -v cc >/dev/null || command -v clang >/dev/null || missing+=(gcc libc6-dev)
    if command -v pkg-config >/dev/null; then
        pkg-config --exists liblz4 || missing+=(liblz4-dev)
        pkg-config --exists yaml-0.1 || missing+=(libyaml-dev)
        pkg-config --exists sqlite3 || missing+=(libsqlite3-dev)
    else
        missing+=(pkg-config liblz4-dev libyaml-dev libsqlite3-dev)
    fi
    if ((${#missing[@]} > 0)); then install_packages "${missing[@]}"; fi
}

# Sets `as_root`: the words to put before a command that only root may run.
need_root_for() {
    as_root=(env DEBIAN_FRONTEND=noninteractive)
    if ((EUID == 0)); then return; fi
    if ! command -v sudo >/dev/null; then
        die "needed to build: $*" \
            "Installing them takes root, and there is no sudo here. As root, run:" \
            "apt-get update && apt-get install -y $*"
    fi
    as_root=(sudo "${as_root[@]}")
}

need_apt_for() {
    if command -v apt-get >/dev/null; then return; fi
    die "needed to build, and there is no apt-get to install it with: $*" \
        "(names of Debian packages). Install what your system calls them, then run this again."
}

update_package_lists_for() {
    need_root_for "$@"
    say "Updating the package lists"
    "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=120 update >&2 ||
        die "'apt-get update' failed; what it said is above." "Needed to build: $*"
}

install_packages() {
    need_apt_for "$@"
    need_root_for "$@"
    local install=("${as_root[@]}" apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@")
    say "Installing $*"
    # A machine whose package lists are fresh is spared the update; one that has none, or old ones, fails here quickly.
    if "${install[@]}" >/dev/null 2>&1; then return; fi
    update_package_lists_for "$@"
    "${install[@]}" >&2 ||
        die "could not install $*; what apt-get said is above." "Install them by hand, then run this again."
}

# unpack_package NAME FOLDER: what is in a Debian package, without installing it. For servers, which would be started and
# stay as services of the machine.
unpack_package() {
    local package=$1 folder=$2
    need_apt_for "$package"
    say "Unpacking $package"
    mkdir -p "$folder"
    if ! (cd "$folder" && apt-get download "$package") >/dev/null 2>&1; then
        update_package_lists_for "$package"
        (cd "$folder" && apt-get download "$package") >&2 ||
            die "could not download $package; what apt-get said is above."
    fi
    dpkg-deb --extract "$folder/${package}"_*.deb "$folder"
}

# `swift build` in the repository, from wherever this was called.
swift_build() { swift build --package-path "$root" "$@"; }

# The sample plugins. The product of Echo is ChanservEcho, and scripts/run installs it as libEcho.so.
readonly plugins=(Echo Exec Files Load SQLite Ticker)

# Builds what users run: the command and the plugins, optimised, without anything that only tests need.
build_release() {
    local product
    for product in chanserv "${plugins[@]/#/Chanserv}"; do swift_build -c release --product "$product"; done
}
