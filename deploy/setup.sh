#!/usr/bin/env bash
# Installs the Debian 12 packages that Tenor needs, and only those that are missing.
#   deploy/setup.sh          to build, run and demonstrate
#   deploy/setup.sh test     also to test and lint
#   deploy/setup.sh bench    also to measure against other software
#   deploy/setup.sh bench infer   also ONNX Runtime for node, by npm, into bench/infer/node_modules
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

packages=(
    gcc libc6-dev make
    postgresql-15 redis-server
    libpq-dev libhiredis-dev libevent-dev libssl-dev libcjson-dev libopenblas-dev zlib1g-dev libseccomp-dev libcurl4-openssl-dev
    dataset-fashion-mnist
)
if [ "${1:-}" = test ]; then
    packages+=(libcmocka-dev python3 python3-pytest python3-requests python3-yaml libdnnl2 clang-format clang-tidy cppcheck clang libclang-rt-14-dev docker-compose curl procps iproute2)
fi

if [ "${1:-}" = bench ]; then
    packages+=(gunicorn python3 python3-flask python3-numpy python3-torch wrk)
    [ "${2:-}" != infer ] || command -v npm >/dev/null || packages+=(nodejs npm)
fi

# The package's install script would fetch libraries for GPUs; the processor's are in the package.
node_packages() {
    [ "${1:-}" = bench ] && [ "${2:-}" = infer ] && [ ! -d "$here/../bench/infer/node_modules/onnxruntime-node" ] || return 0
    echo "installing onnxruntime-node into bench/infer/node_modules"
    local why
    why=$(npm install --prefix "$here/../bench/infer" --ignore-scripts --no-package-lock --no-audit --no-fund 2>&1) ||
        { echo "$why" | tail -20 >&2; echo "npm could not install onnxruntime-node; without it there is no bench-infer" >&2; exit 1; }
}

missing=()
installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null | sed -n 's/^installed //p')
for p in "${packages[@]}"; do
    grep -qx -- "$p" <<<"$installed" || missing+=("$p")
done
if [ ${#missing[@]} -eq 0 ]; then
    node_packages "$@"
    exit 0
fi

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
node_packages "$@"
