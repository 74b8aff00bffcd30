# Functions of the scripts in this folder and of .ci/run: find the Swift toolchain and install build dependencies.
# To be sourced. Sets `root` (the folder of the repository) and defines functions.
# shellcheck shell=bash

# The host refuses to load plugins that other users can write to.
umask go-w

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# The oldest Swift version that builds this package.
readonly swift_needed=6.3

say() { printf '==> %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$1" >&2
    shift
    if (($# > 0)); then printf '       %s\n' "$@" >&2; fi
    exit 1
}

# Makes sure that `swift` is in PATH and new enough.
need_swift() {
    # swiftly adds its folder only to the PATH of login shells.
    local swiftly=${SWIFTLY_BIN_DIR:-${SWIFTLY_HOME_DIR:-${HOME:-}/.local/share/swiftly}/bin}
    if ! command -v swift >/dev/null && [[ -x $swiftly/swift ]]; then PATH=$swiftly:$PATH; fi
    if ! command -v swift >/dev/null; then
        die "no 'swift' in PATH." \
            "Install Swift $swift_needed or later from https://www.swift.org/install/linux/ and open a new shell." \
            "If it is installed already: export PATH=/path/to/swift/usr/bin:\$PATH"
    fi
    local version
    version=$(swift --version 2>/dev/null | sed -nE 's/.*Swift version ([0-9]+\.[0-9]+).*/\1/p' | head -n 1) || true
    if [[ -z $version ]]; then
        die "'$(command -v swift) --version' failed." \
            "Run it by hand to see the error. A system library that the toolchain needs may be missing:" \
            "https://www.swift.org/install/linux/ lists them."
    fi
    if [[ $(printf '%s\n' "$swift_needed" "$version" | sort -V | head -n 1) != "$swift_needed" ]]; then
        die "Swift $version is too old: this package needs Swift $swift_needed or later." \
            "Install it from https://www.swift.org/install/linux/. The old one is $(command -v swift)."
    fi
}

# Makes sure that liblz4, libyaml, SQLite, zlib, libzstd, pkg-config, git and a C compiler are there. Installs missing Debian packages.
need_libraries() {
    local missing=()
    command -v git >/dev/null || missing+=(git ca-certificates)
    command -v cc >/dev/null || command -v clang >/dev/null || missing+=(gcc libc6-dev)
    if command -v pkg-config >/dev/null; then
        pkg-config --exists liblz4 || missing+=(liblz4-dev)
        pkg-config --exists yaml-0.1 || missing+=(libyaml-dev)
        pkg-config --exists sqlite3 || missing+=(libsqlite3-dev)
        pkg-config --exists zlib || missing+=(zlib1g-dev)
        pkg-config --exists libzstd || missing+=(libzstd-dev)
    else
        missing+=(pkg-config liblz4-dev libyaml-dev libsqlite3-dev zlib1g-dev libzstd-dev)
    fi
    if ((${#missing[@]} > 0)); then install_packages "${missing[@]}"; fi
}

# Makes sure that the programs that tests use as peers are there. Installs missing Debian packages.
need_test_tools() {
    local missing=()
    command -v openssl >/dev/null || missing+=(openssl)
    command -v stunnel >/dev/null || missing+=(stunnel4)
    if ((${#missing[@]} > 0)); then install_packages "${missing[@]}"; fi
}

# Makes sure that Python can make virtual environments. Installs missing Debian packages.
need_python() {
    local missing=()
    command -v python3 >/dev/null || missing+=(python3 python3-venv)
    # Debian's Python comes without it.
    if command -v python3 >/dev/null && ! python3 -c 'import ensurepip' 2>/dev/null; then missing+=(python3-venv); fi
    if ((${#missing[@]} > 0)); then install_packages "${missing[@]}"; fi
}

# Makes sure that the tools of scripts/package are there. Installs missing Debian packages.
need_package_tools() {
    local missing=()
    command -v dpkg-shlibdeps >/dev/null || missing+=(dpkg-dev)
    command -v strip >/dev/null || missing+=(binutils)
    command -v xz >/dev/null || missing+=(xz-utils)
    command -v python3 >/dev/null || missing+=(python3)
    if ((${#missing[@]} > 0)); then install_packages "${missing[@]}"; fi
}

# need_root_for PACKAGE...: sets `as_root`, the prefix for commands that need root.
need_root_for() {
    as_root=(env DEBIAN_FRONTEND=noninteractive)
    if ((EUID == 0)); then return; fi
    if ! command -v sudo >/dev/null; then
        die "missing packages: $*" \
            "Cannot install them without root or sudo. As root, run:" \
            "apt-get update && apt-get install -y $*"
    fi
    as_root=(sudo "${as_root[@]}")
}

need_apt_for() {
    if command -v apt-get >/dev/null; then return; fi
    die "missing packages: $*" \
        "Cannot install them without apt-get. Install them (these are the Debian names), then run this again."
}

update_package_lists_for() {
    need_root_for "$@"
    say "Updating the package lists"
    "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=120 update >&2 ||
        die "'apt-get update' failed; see its messages above." "Missing packages: $*"
}

install_packages() {
    need_apt_for "$@"
    need_root_for "$@"
    local install=("${as_root[@]}" apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@")
    say "Installing $*"
    # The first attempt skips the update of the package lists. Without current lists it fails quickly.
    if "${install[@]}" >/dev/null 2>&1; then return; fi
    update_package_lists_for "$@"
    "${install[@]}" >&2 ||
        die "cannot install $*; see the messages of apt-get above." "Install them by hand, then run this again."
}

# unpack_package NAME FOLDER: unpacks a Debian package without installing it. For packages of servers, whose
# installation would start a system service.
unpack_package() {
    local package=$1 folder=$2
    need_apt_for "$package"
    say "Unpacking $package"
    mkdir -p "$folder"
    if ! (cd "$folder" && apt-get download "$package") >/dev/null 2>&1; then
        update_package_lists_for "$package"
        (cd "$folder" && apt-get download "$package") >&2 ||
            die "cannot download $package; see the messages of apt-get above."
    fi
    dpkg-deb --extract "$folder/${package}"_*.deb "$folder"
}

# Runs `swift build` in the repository, from any current folder.
swift_build() { swift build --package-path "$root" "$@"; }

# The sample plugins. The product of Echo is ChanservEcho, and scripts/run installs it as libEcho.so.
readonly plugins=(Echo Exec Files Load SQLite Ticker Whoami)

# Builds the release products for users: the command and the plugins.
build_release() {
    local product
    for product in chanserv "${plugins[@]/#/Chanserv}"; do swift_build -c release --product "$product"; done
}
