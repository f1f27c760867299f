#!/bin/sh
# Makes a Debian image to build docker/triton-cpu.Dockerfile on, from Debian's own mirrors, for
# machines that reach no registry with one.
set -eu

suite=bookworm
image=falconry-base:$suite
force=no

usage() {
    cat <<USAGE
Usage: sh scripts/base_image.sh [--force] [NAME[:TAG]]

Makes a minimal Debian $suite image with mmdebstrap and imports it into the Docker engine of
DOCKER_HOST as NAME[:TAG], $image by default. Does nothing when the engine has it.

  --force   make it again, with today's packages
  --help    this text

Needs root, the docker command, and apt with Debian's mirrors. mmdebstrap is fetched when it is not
installed; it is not installed then either.
USAGE
}

fail() {
    echo "base_image: $1" >&2
    echo "  $2" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit ;;
        --force) force=yes ;;
        -*) fail "unknown option $1" "see: sh scripts/base_image.sh --help" ;;
        *) image=$1 ;;
    esac
    shift
done

command -v docker >/dev/null || fail "there is no docker command" "run: sudo apt-get install docker.io"
docker version --format '{{.Server.Version}}' >/dev/null 2>&1 ||
    fail "no Docker engine answers at ${DOCKER_HOST:-its default socket}" \
        "start one, or set DOCKER_HOST"
if [ "$force" = no ] && docker image inspect "$image" >/dev/null 2>&1; then
    echo "$image is there already; --force makes it again"
    exit
fi
[ "$(id -u)" = 0 ] || fail "mmdebstrap needs root's rights" "run: sudo sh scripts/base_image.sh $image"
command -v apt-get >/dev/null || fail "there is no apt-get" "run this on Debian, or pull debian:$suite-slim"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Debian's own suites among this machine's sources, as lines of sources.list; none on a machine of
# another distribution, and mmdebstrap then takes Debian's default mirrors.
mirrors() {
    apt-get indextargets --format "\$(REPO_URI) \$(CODENAME) \$(COMPONENT) \$(ORIGIN)" \
        'Created-By: Packages' |
        awk -v suite="$suite" '
            $4 == "Debian" && $1 ~ /^http/ && ($2 == suite || index($2, suite "-") == 1) {
                print "deb", $1, $2, $3
            }' | sort -u
}

fetch_mmdebstrap() {
    echo "Fetching mmdebstrap"
    # apt downloads as its own user, who must be able to write there.
    mkdir -m 777 "$work/package"
    chmod 755 "$work"
    (cd "$work/package" && apt-get download --quiet mmdebstrap >/dev/null) ||
        fail "mmdebstrap cannot be fetched" "run: apt-get update, or apt-get install mmdebstrap"
    dpkg -x "$work"/package/mmdebstrap_*.deb "$work/tools"
    PATH=$work/tools/usr/bin:$PATH
    hooks=$work/tools/usr/share/mmdebstrap/hooks
}

hooks=/usr/share/mmdebstrap/hooks
command -v mmdebstrap >/dev/null || fetch_mmdebstrap
mirrors >"$work/sources.list"
if [ -s "$work/sources.list" ]; then
    set -- "$work/sources.list"
else
    set --
fi
echo "Making $image from Debian's packages: about a minute"
# /usr is merged from the start, since the package that merges it later brings all of Perl. What is
# left out, Debian's own slim images leave out as well: documents, manuals and translations.
mmdebstrap --mode=root --variant=minbase --include=ca-certificates,usr-is-merged \
    --hook-dir="$hooks/merged-usr" \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    "$suite" "$work/base.tar" "$@" >"$work/log" 2>&1 || {
    tail -n 20 "$work/log" >&2
    fail "mmdebstrap failed" "see its last messages above"
}
echo "Importing it"
docker import --change 'CMD ["bash"]' "$work/base.tar" "$image" >/dev/null
echo "$image is made. Next: make image"
