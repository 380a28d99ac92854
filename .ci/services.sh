# The checks with other programs: shells, systemd, a browser, Prometheus, schedulers, brokers. `.ci/run` calls them.
# Each installs what it needs, or unpacks it below target/ci if an installation would start a service.

# Runs a test in Python. If it exits with 77, this machine cannot run it, for the reason of the second argument.
in_python() {
    local status=0
    python3 "${@:3}" || status=$?
    if [[ $status -eq 77 ]]; then
        skip "$1: $2"
        return
    fi
    return "$status"
}

# Takes the files out of packages of Debian. Their installation would start services.
unpack() {
    local package folder=$1
    rm -rf "$folder"
    mkdir -p "$folder" target/ci/bin
    (cd "$folder" && timeout "$DOWNLOAD_SECONDS" apt-get download -qq "${@:2}" &&
        for package in ./*.deb; do dpkg -x "$package" . || exit; done)
}

systemd_units() {
    if ! command -v systemd-analyze; then
        skip 'units of systemd: there is no systemd-analyze'
        return
    fi
    local folder=target/ci/units
    rm -rf "$folder"
    mkdir -p "$folder"
    cp deploy/systemd/* "$folder"
    # The program is not installed here.
    sed -i 's|/usr/bin/tcpcore|/bin/true|' "$folder"/*
    systemd-analyze verify "$folder"/*
    # In tenths: an exposure of more than 2.5 fails.
    systemd-analyze security --offline=true --threshold=25 "$folder"/* | grep Overall
}

completions() {
    local log
    if ! command -v python3; then
        skip 'man page and completions: there is no Python'
        return
    fi
    type -P man mandoc zsh fish || install_package man-db mandoc zsh fish || true
    cargo build --locked -p tcpcore --bin tcpcore
    log=$(mktemp)
    python3 tests/service/completions.py target/debug/tcpcore | tee "$log"
    sed -n 's/^SKIPPED: /man page and completions: /p' "$log" >>"$skipped"
    rm "$log"
}

# Not optimized across crates, which would take minutes. Two runs make the same files.
release() {
    local sums version archive folder
    # A skipped step must not leave the files of an earlier run to those that follow.
    rm -rf target/ci/release
    if ! install_subcommand deb 3.8. "$CARGO_DEB_VERSION" || ! install_target "$(uname -m)-unknown-linux-musl"; then
        skip 'files of a release: there is no cargo-deb or no target of musl'
        return
    fi
    sums=$(mktemp)
    build_release
    cp target/dist/SHA256SUMS "$sums"
    (cd target/dist && sha256sum --check --strict SHA256SUMS)
    touch README.md docs/* deploy/systemd/*
    build_release
    diff "$sums" target/dist/SHA256SUMS
    rm "$sums"
    version=$(cargo pkgid -p tcpcore | sed 's/.*[#@]//')
    mkdir -p target/ci/release
    for archive in target/dist/*.tar.gz; do tar -xf "$archive" -C target/ci/release; done
    for folder in target/ci/release/*; do
        [[ $("$folder/tcpcore" --version) == "tcpcore $version" ]]
        ls "$folder"/{tcpcore.1,README.md,LICENSE-MIT,LICENSE-APACHE} "$folder"/completions/{_tcpcore,tcpcore.bash}
    done
}

build_release() {
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 .ci/release
}

# The step before has built it.
static_program() {
    if [[ ! -d target/ci/release ]] || ! command -v python3; then
        skip 'names in the static program: there is no such program or no Python'
        return
    fi
    in_python 'names in the static program' 'this is not root, or there are no namespaces' \
        tests/service/static.py target/ci/release/*-musl/tcpcore
}

# The package is that of the release. The Debian that it is installed in stays in target/.
debian_package() {
    if [[ ! -d target/ci/release ]] || ! command -v python3 ||
        ! { type -P debootstrap systemd-nspawn || install_package debootstrap systemd-container; }; then
        skip 'Debian package: there is no package, no Python, or debootstrap or systemd-nspawn cannot be installed'
        return
    fi
    in_python 'Debian package' 'this is not root, or no Debian with systemd can be made and booted here' \
        tests/service/package.py target/dist/tcpcore_*.deb target/ci/debian
}

# It needs Chromium, Node and two packages of npm, which are installed in a copy.
page() {
    local folder=target/ci/page
    if ! command -v npm || ! { command -v chromium || install_package chromium; }; then
        skip 'page of the status server: there is no npm or no Chromium'
        return
    fi
    mkdir -p "$folder"
    cp tests/page/package.json "$folder"
    if ! timeout "$DOWNLOAD_SECONDS" npm install --prefix "$folder" --no-audit --no-fund; then
        skip 'page of the status server: its packages of npm cannot be downloaded'
        return
    fi
    NODE_PATH="$folder/node_modules" node tests/page/check.mjs
}

# The packages of npm are those of the step before.
page_of_program() {
    local modules=target/ci/page/node_modules
    if [[ ! -d $modules ]] || ! command -v chromium; then
        skip 'page of the status server, with the program: there are no packages of npm or no Chromium'
        return
    fi
    cargo build --locked --release
    NODE_PATH=$modules node tests/page/check.mjs --program target/release
}

metrics_in_prometheus() {
    if ! command -v python3 || ! { type -P prometheus promtool || install_prometheus; }; then
        skip 'metrics and alert with Prometheus: there is no Python, or Prometheus cannot be downloaded'
        return
    fi
    cargo build --locked --release
    in_python 'metrics and alert with Prometheus' 'there is no prometheus or no promtool' \
        tests/service/prometheus.py
}

install_prometheus() {
    local as_root folder=target/ci/prometheus
    update_packages && unpack "$folder" prometheus &&
        cp "$folder"/usr/bin/{prometheus,promtool} target/ci/bin
}

# Renoir comes with libraries in several versions each, and with licenses of its own.
renoir() {
    local log package=(--manifest-path examples/renoir/Cargo.toml)
    log=$(mktemp)
    if ! timeout "$DOWNLOAD_SECONDS" cargo fetch --locked "${package[@]}" 2>&1 | tee "$log"; then
        if grep 'lock file' "$log"; then return 1; fi
        skip 'example with Renoir: its dependencies cannot be downloaded'
        return
    fi
    rm "$log"
    cargo clippy --locked --all-targets "${package[@]}" --target-dir target/ci/renoir -- -D warnings
    cargo test --locked "${package[@]}" --target-dir target/ci/renoir
    if ! cargo deny --version; then
        skip 'licenses, bans and sources of the example with Renoir: cargo-deny is not installed'
        return
    fi
    cargo deny --locked "${package[@]}" --config deny.toml check --allow duplicate bans sources
    cargo deny --locked "${package[@]}" --config examples/renoir/deny.toml check licenses
}

shards_in_swarm() {
    if ! command -v python3 || ! install_docker || ! { command -v debootstrap || install_package debootstrap; }; then
        skip 'image and shards on a Docker Swarm: there is no Python, or Docker or debootstrap cannot be downloaded'
        return
    fi
    in_python 'image and shards on a Docker Swarm' 'it needs root, namespaces and an engine that starts' \
        tests/service/swarm.py
}

shards_under_slurm() {
    if ! command -v python3 || ! { type -P munged slurmctld slurmd || install_slurm; }; then
        skip 'shards under Slurm: there is no Python, or Slurm cannot be downloaded'
        return
    fi
    cargo build --locked --release
    in_python 'shards under Slurm' 'no Slurm, or no namespaces' tests/service/slurm.py
}

install_docker() {
    local folder=target/ci/docker
    if type -P docker dockerd containerd containerd-shim-runc-v2 runc; then return; fi
    install_package libdevmapper1.02.1 libseccomp2 && unpack "$folder" docker.io containerd runc &&
        cp "$folder"/usr/bin/{docker,containerd,containerd-shim-runc-v2} "$folder"/usr/sbin/{dockerd,runc} target/ci/bin
}

# The libraries are unpacked, too.
install_slurm() {
    local as_root folder=target/ci/slurm packages
    if [[ -x $folder/usr/bin/srun ]]; then return; fi
    rm -rf "$folder"
    update_packages || return
    packages=$(apt-get install --simulate --no-install-recommends munge slurm-client slurmctld slurmd |
        awk '$1 == "Inst" { print $2 }') || return
    # shellcheck disable=SC2086 # One argument a package.
    unpack "$folder.new" $packages && rm "$folder.new"/*.deb && mv "$folder.new" "$folder"
}

# The packages of Python stay in a folder of their own.
manifests() {
    local folder=target/ci/manifests
    if ! python3 -m venv "$folder" || ! timeout "$DOWNLOAD_SECONDS" "$folder/bin/pip" install -q \
        "kubernetes-validate==$KUBERNETES_VALIDATE_VERSION" "python-hcl2==$PYTHON_HCL2_VERSION"; then
        skip 'files for Kubernetes and Nomad: packages of Python cannot be installed'
        return
    fi
    "$folder/bin/kubernetes-validate" --strict deploy/kubernetes/*.yaml
    cargo build --locked --release
    "$folder/bin/python" tests/service/manifests.py
}

numbers_to_mosquitto() {
    if ! command -v python3 || ! { type -P mosquitto mosquitto_pub mosquitto_sub || install_mosquitto; }; then
        skip 'numbers to an MQTT broker: there is no Python, or mosquitto cannot be installed'
        return
    fi
    cargo build --locked --release
    in_python 'numbers to an MQTT broker' 'there is no mosquitto' tests/service/mosquitto.py
}

# The libraries that the package of the broker needs are installed.
install_mosquitto() {
    local as_root folder=target/ci/mosquitto libraries
    update_packages && unpack "$folder" mosquitto &&
        libraries=$(dpkg-deb -f "$folder"/*.deb Depends | grep -oE '\blib[a-z0-9.+-]+' | sort -u) &&
        install_package --no-upgrade mosquitto-clients $libraries &&
        cp "$folder"/usr/sbin/mosquitto target/ci/bin
}
