# Sourced by run_tests.sh: a Chromium for the tests that look at pages, and fonts for what they show.
# Installs only what is not there, and only as root with apt-get.

BROWSERS="chromium chromium-browser google-chrome"
BROWSER_PACKAGES="chromium fonts-dejavu-core fonts-wqy-microhei"

has_browser() {
    local name
    for name in $BROWSERS; do
        command -v "$name" >/dev/null && return
    done
    return 1
}

may_install_packages() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# Where it can do nothing it says nothing: the tests themselves say what is missing.
prepare_browser() {
    if has_browser || ! may_install_packages; then return; fi
    say "installing $BROWSER_PACKAGES (once; this takes a minute)"
    { apt-get -qq update && install_packages; } ||
        say "no Chromium could be installed; the lines above say why."
}

install_packages() {
    # Output only if it fails: it names every file of every package.
    local output
    # shellcheck disable=SC2086 # several packages
    output="$(DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 \
        install --yes --no-install-recommends $BROWSER_PACKAGES 2>&1)" || { echo "$output" >&2; return 1; }
}
