#!/usr/bin/env bash
# Installs the Debian 12 packages that Tenor needs, and only those that are missing.
#   deploy/setup.sh          to build, run and demonstrate
#   deploy/setup.sh test     also to test and lint
#   deploy/setup.sh bench    also to measure against other software
set -euo pipefail

packages=(
    gcc libc6-dev make
    postgresql-15 redis-server
    libpq-dev libhiredis-dev libevent-dev libssl-dev libcjson-dev libopenblas-dev zlib1g-dev libseccomp-dev libcurl4-openssl-dev
    dataset-fashion-mnist
)
if [ "${1:-}" = test ]; then
    packages+=(libcmocka-dev python3 python3-pytest python3-requests python3-yaml clang-format clang-tidy cppcheck clang libclang-rt-14-dev docker-compose curl procps iproute2)
fi

if [ "${1:-}" = bench ]; then
    packages+=(gunicorn python3 python3-flask python3-numpy python3-torch wrk)
fi

missing=()
installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null | sed -n 's/^installed //p')
for p in "${packages[@]}"; do
    grep -qx -- "$p" <<<"$installed" || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0

[ "$(. /etc/os-release && echo "${ID:-}")" = debian ] || echo "note: this is not Debian; Tenor is built and tested on Debian 12" >&2
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "These packages are missing: ${missing[*]}. Install them as root, or install sudo." >&2; exit 1; }
    as_root=(sudo)
fi
echo "installing ${missing[*]}"
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq -o Dpkg::Use-Pty=0 "$@" </dev/null; }

log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() { "$@" >"$log" 2>&1 || { tail -20 "$log" >&2; echo "installing packages failed: $*" >&2; exit 1; }; }

run apt update
# Debian's package makes a cluster of its own on port 5432; Tenor's launcher keeps a private one, so none is wanted.
if [[ " ${missing[*]} " == *" postgresql-15 "* ]] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    run apt install -y --no-install-recommends postgresql-common
    "${as_root[@]}" sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
fi
run apt install -y --no-install-recommends "${missing[@]}"
